"""The HTTP server: one socket, one or more worker processes."""

import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable

import uvicorn
from uvicorn.supervisors import Multiprocess

from imageapi.metrics import share_between_workers

#: How long requests under way may take once the service is asked to stop, in seconds.
GRACE_SECONDS = 30
_BACKLOG = 2048
#: Names that uvicorn imports in each worker: what makes the application, and its protocol.
APPLICATION = "imageapi.app:from_environment"
PROTOCOL = "imageapi.http.server_protocol:DocumentedProtocol"


class NotServing(Exception):
    """The service cannot listen, or cannot begin; ``str()`` is one line."""


def serve(
    host: str,
    port: int,
    workers: int,
    listening: Callable[[int], object],
    *,
    application: str = APPLICATION,
    protocol: str = PROTOCOL,
) -> None:
    """Serve until SIGTERM or SIGINT; ``listening`` is called with the port once clients may ask.

    Those who ask before the workers are ready wait in the socket's queue. Raises NotServing, and
    SystemExit(0) when told to stop, so that what was opened around it is closed.
    """
    sock = _listen(host, port)
    config = uvicorn.Config(
        application,
        factory=True,
        http=protocol,
        loop="uvloop",
        ws="none",
        workers=workers,
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,  # the application knows whom to believe
        timeout_graceful_shutdown=GRACE_SECONDS,
        backlog=_BACKLOG,
    )
    # uvicorn raises the signal again once it has stopped; the default would end us on the spot.
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    listening(sock.getsockname()[1])
    if workers > 1:
        with share_between_workers():
            Multiprocess(config, sockets=[sock]).run()
        return
    server = uvicorn.Server(config)
    server.run(sockets=[sock])
    if not server.started:
        raise NotServing("the service cannot begin: the lines above say why")


def end_with_parent() -> None:
    """Let a worker process stop, as by SIGTERM, when the process that started it is gone.

    Killed without a chance to stop its workers, the service would leave them at its port.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:

        def wait() -> None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=wait, daemon=True).start()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError as error:
        raise NotServing(f"cannot listen on {host} port {port}: {error.strerror}") from error
    sock.set_inheritable(True)
    return sock


def _stop(*_: object) -> None:
    raise SystemExit(0)
