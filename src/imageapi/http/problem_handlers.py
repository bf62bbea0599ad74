"""Turns errors into problem responses (`problem_types`), and lets the application do so.

An error carries the facts of its response: its class has a problem type, ``str()`` is the
sentence for the client, and attributes have what else some of them need (seconds, a field, missing
images). An error that the table of problem types does not name is a 500 that shows the client
nothing but the request's id.
"""

import errno
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from imageapi import metrics
from imageapi.albums.errors import InvalidChange
from imageapi.auth.errors import TokenRefused
from imageapi.database.errors import ImageNotFound
from imageapi.database.rate_limits import RateExceeded
from imageapi.http.errors import (
    BodyTooLarge,
    BodyTooSlow,
    InvalidParameter,
    MethodNotAllowed,
    NothingHere,
    Overloaded,
    UnreadableRequest,
)
from imageapi.http.problem_types import (
    PROBLEM_TYPES,
    UNEXPECTED,
    InputError,
    ProblemType,
    problem_response,
)
from imageapi.records.messages import describe_error

#: A response lists the first errors of an input, with this much of the names in a pointer, both
#: of which the client chooses.
MAX_LISTED_ERRORS = 20
MAX_NAME_CHARACTERS = 100

#: What an OSError has where the machine is out of files, memory or disk space.
_SCARCE_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.ENOSPC}

#: What the framework and `body_limits` raise as an HTTPException of a status, as our own errors.
_ERRORS_BY_STATUS: Mapping[int, tuple[type[Exception], str]] = {
    HTTPStatus.BAD_REQUEST: (UnreadableRequest, "The body cannot be read."),
    HTTPStatus.NOT_FOUND: (NothingHere, "There is nothing at this address."),
    HTTPStatus.REQUEST_TIMEOUT: (BodyTooSlow, "The body came too slowly."),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (
        BodyTooLarge,
        "The body is larger than what is read here.",
    ),
}


def problem_for(error: Exception, request_id: str, path_params: Collection[str] = ()) -> Response:
    """Return the problem response of any error.

    ``path_params`` are the names of the request's path parameters: a field that is among them
    was in the path, any other in the body.
    """
    error = _translate_foreign_error(error)
    problem_type = _get_problem_type(error)
    input_errors = _list_input_errors(error, path_params)
    return problem_response(
        problem_type,
        _get_detail(error, problem_type, input_errors),
        request_id,
        headers=_get_headers(error),
        errors=input_errors,
    )


def _translate_foreign_error(error: Exception) -> Exception:
    """Return our own error for one of the framework or the machine, else the error itself."""
    match error:
        case HTTPException() if error.status_code in _ERRORS_BY_STATUS:
            error_type, detail = _ERRORS_BY_STATUS[error.status_code]
            return error_type(detail)
        case RequestValidationError() if _is_no_json(error):
            return UnreadableRequest("The body is not JSON.")
        case OSError() if is_scarce_resource(error):
            return Overloaded("The machine is at its limits.")
        case _:
            return error


def _is_no_json(error: RequestValidationError) -> bool:
    listed_errors = error.errors()[:MAX_LISTED_ERRORS]
    return any(listed["type"] == "json_invalid" for listed in listed_errors)


def is_scarce_resource(error: OSError) -> bool:
    """Return whether the machine has no more files, memory or disk space for now."""
    return error.errno in _SCARCE_RESOURCES


def _get_problem_type(error: Exception) -> ProblemType:
    if isinstance(error, HTTPException):  # of a status that no error of ours has
        status = HTTPStatus(error.status_code)
        return ProblemType(status.phrase.lower().replace(" ", "-"), status, status.phrase)
    return next(PROBLEM_TYPES[base] for base in type(error).__mro__ if base in PROBLEM_TYPES)


def _list_input_errors(error: Exception, path_params: Collection[str]) -> Sequence[InputError]:
    """Return the faults of the input; none where the error is not about a part of the input."""
    match error:
        case InvalidParameter(pointer=pointer):
            return [InputError(pointer=pointer, detail=str(error))]
        case InvalidChange(field=field):
            part = "path" if field in path_params else "body"
            return [InputError(pointer=f"/{part}/{field}", detail=str(error))]
        case ImageNotFound(missing=missing) if "public_id" not in path_params:
            return [
                InputError(pointer="/body/public_ids", detail=f"{public_id} is not in the album")
                for public_id in missing
            ]
        case RequestValidationError():
            return [
                InputError(pointer=_build_pointer(listed["loc"]), detail=describe_error(listed))
                for listed in error.errors()[:MAX_LISTED_ERRORS]
            ]
        case _:
            return []


def _build_pointer(location: Sequence[str | int]) -> str:
    return "/" + "/".join(str(part)[:MAX_NAME_CHARACTERS] for part in location)


def _get_detail(
    error: Exception, problem_type: ProblemType, input_errors: Sequence[InputError]
) -> str:
    """Return the sentence for the client."""
    if problem_type is UNEXPECTED:  # its own words may quote a statement or a path
        return "The error was written down under this request's id."
    match error:
        case HTTPException():
            return f"{problem_type.title}."
        case InvalidParameter() | InvalidChange() | RequestValidationError():
            return "; ".join(map(_format_input_error, input_errors)) + "."
        case ImageNotFound() if not input_errors:
            return "There is no such image."
        case _:
            return str(error)


def _format_input_error(error: InputError) -> str:
    """Return what is wrong, with the name of the field, but not where the field was sent."""
    _, part, *names = error.pointer.split("/")
    return f"{'.'.join(names) or f'the {part}'} {error.detail}"


def _get_headers(error: Exception) -> Mapping[str, str]:
    """Return the headers of this error, beside those of its problem type or in their place."""
    match error:
        case RateExceeded(seconds=seconds):
            return {"Retry-After": str(math.ceil(seconds) or 1)}
        case MethodNotAllowed(methods=methods):
            return {"Allow": methods}
        case _:
            return {}


def add_problem_handlers(app: FastAPI, get_methods: Callable[[str], list[str]]) -> None:
    """Let every error of the application be answered as a problem.

    ``get_methods`` returns the methods of a path, for the header ``Allow``.
    """
    for error_type in PROBLEM_TYPES:
        app.add_exception_handler(error_type, _handle_error)
    app.add_exception_handler(TokenRefused, _handle_refused_token)
    app.add_exception_handler(HTTPException, partial(_handle_http_exception, get_methods))
    app.add_exception_handler(OSError, _handle_os_error)


async def _handle_error(request: Request, error: Exception) -> Response:
    return problem_for(error, request.state.request_id, request.path_params)


async def _handle_refused_token(request: Request, error: Exception) -> Response:
    """Let the log and the metrics have the reason of the refusal, which names no token."""
    reason = type(error).__name__
    request.state.refused = reason
    metrics.TOKEN_REFUSALS.labels(reason).inc()
    return await _handle_error(request, error)


async def _handle_http_exception(
    get_methods: Callable[[str], list[str]], request: Request, error: Exception
) -> Response:
    """Answer what the framework refuses: no route, no such method, a body that cannot be read."""
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        error = MethodNotAllowed(get_methods(request.scope["path"]))
    return await _handle_error(request, error)


async def _handle_os_error(request: Request, error: Exception) -> Response:
    """Answer where the machine lacks something for now; any other OSError is unexpected."""
    assert isinstance(error, OSError)
    if not is_scarce_resource(error):
        raise error
    return await _handle_error(request, error)
