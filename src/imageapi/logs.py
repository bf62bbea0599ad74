"""How log lines look: JSON for machines, columns for a person at a terminal. To standard error."""

import logging
import sys
import traceback

import structlog


def configure_logs() -> None:
    """Bring structlog and the standard library's loggers to one form."""
    terminal = sys.stderr.isatty()
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                _without_traceback,
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def place_of(error: BaseException) -> str:
    """Module and line that raised: enough to find it, and nothing of what was in its hands."""
    frames = list(traceback.walk_tb(error.__traceback__))
    if not frames:
        return "nowhere"
    frame, line = frames[-1]
    return f"{frame.f_globals.get('__name__')}:{line}"


def _without_traceback(
    _: object, __: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Name the exception; its words and its stack may quote secrets, statements and paths."""
    info = event.pop("exc_info", None)
    if isinstance(info, tuple) and info[0] is not None:
        event["error"] = info[0].__name__
    return event
