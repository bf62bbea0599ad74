"""Every error's answer, in one place, as ``application/problem+json`` (RFC 9457).

The table says which error becomes which answer; an error that it does not name is a 500 that tells
nothing but the request's id.
"""

import errno
import math
from collections.abc import Sequence
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from imageapi import metrics
from imageapi.albums.errors import InvalidChange
from imageapi.auth.errors import TokenRefused
from imageapi.database.errors import (
    ImageNotFound,
)
from imageapi.database.rate_limits import RateExceeded
from imageapi.http.errors import (
    InvalidParameter,
)
from imageapi.http.problem_types import (
    INVALID_INPUT,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    OVERLOADED,
    PROBLEM_TYPES,
    RATE_LIMITED,
    TOO_LARGE,
    TOO_SLOW,
    UNEXPECTED,
    UNREADABLE,
    ProblemType,
    problem_response,
)

#: So much is told of what is wrong with an input: the first errors, and names as far as this.
MAX_LISTED_ERRORS = 20
MAX_NAME_CHARACTERS = 100

_SCARCE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.ENOSPC}


def add_problem_handlers(app: FastAPI) -> None:
    """Let every error of the application be answered as a problem."""
    for error_type in PROBLEM_TYPES:
        app.add_exception_handler(error_type, _expected)
    app.add_exception_handler(TokenRefused, _token_refused)
    app.add_exception_handler(RateExceeded, _too_often)
    app.add_exception_handler(ImageNotFound, _not_found)
    app.add_exception_handler(InvalidParameter, _invalid_parameter)
    app.add_exception_handler(InvalidChange, _invalid_change)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(OSError, _scarce_resource)
    app.add_exception_handler(Exception, _unexpected)


async def _expected(request: Request, error: Exception) -> Response:
    kind = next(PROBLEM_TYPES[base] for base in type(error).__mro__ if base in PROBLEM_TYPES)
    return problem_response(kind, str(error), request.state.request_id)


def rate_limited(error: RateExceeded, instance: str) -> Response:
    """The answer to who asked too often: ``Retry-After`` says when there is room again."""
    headers = {"Retry-After": str(math.ceil(error.seconds) or 1)}
    return problem_response(RATE_LIMITED, str(error), instance, headers=headers)


async def _too_often(request: Request, error: Exception) -> Response:
    assert isinstance(error, RateExceeded)
    return rate_limited(error, request.state.request_id)


async def _token_refused(request: Request, error: Exception) -> Response:
    """Say in log and metrics what was wrong with the token, which neither holds."""
    request.state.refused = type(error).__name__
    metrics.TOKEN_REFUSALS.labels(type(error).__name__).inc()
    return await _expected(request, error)


async def _not_found(request: Request, error: Exception) -> Response:
    """Name those that are missing of many."""
    assert isinstance(error, ImageNotFound)
    errors = [
        {"pointer": "/body/public_ids", "detail": f"{missing} is not in the album"}
        for missing in error.missing
        if "public_id" not in request.path_params
    ]
    detail = str(error) if errors else "There is no such image."
    return problem_response(NOT_FOUND, detail, request.state.request_id, errors=errors)


async def _invalid_parameter(request: Request, error: Exception) -> Response:
    assert isinstance(error, InvalidParameter)
    return _invalid_input(request, error.pointer, error)


async def _invalid_change(request: Request, error: Exception) -> Response:
    assert isinstance(error, InvalidChange)
    part = "path" if error.field in request.path_params else "body"
    return _invalid_input(request, f"/{part}/{error.field}", error)


def _invalid_input(request: Request, pointer: str, error: Exception) -> Response:
    errors = [{"pointer": pointer, "detail": str(error)}]
    return problem_response(
        INVALID_INPUT, f"{pointer} {error}.", request.state.request_id, errors=errors
    )


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    told = error.errors()[:MAX_LISTED_ERRORS]
    errors = [
        {"pointer": _pointer(each["loc"]), "detail": each["msg"]}  # of names that were sent, too
        for each in told
    ]
    if any(each["type"] == "json_invalid" for each in told):
        return problem_response(UNREADABLE, "The body is not JSON.", request.state.request_id)
    detail = "; ".join(f"{each['pointer']}: {each['detail']}" for each in errors)
    return problem_response(INVALID_INPUT, detail, request.state.request_id, errors=errors)


def _pointer(place: Sequence[str | int]) -> str:
    return "/" + "/".join(str(part)[:MAX_NAME_CHARACTERS] for part in place)


async def _http(request: Request, error: Exception) -> Response:
    """What the framework itself refuses: no route, no such method, a body it cannot read."""
    assert isinstance(error, HTTPException)
    instance = request.state.request_id
    if error.status_code == HTTPStatus.NOT_FOUND:
        return problem_response(NOT_FOUND, "There is nothing at this address.", instance)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allow = ", ".join(request.app.state.methods_of(request.scope["path"]))
        detail = f"This address knows {allow}."
        return problem_response(METHOD_NOT_ALLOWED, detail, instance, headers={"Allow": allow})
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return problem_response(TOO_LARGE, "The body is larger than what is read here.", instance)
    if error.status_code == HTTPStatus.REQUEST_TIMEOUT:
        return problem_response(TOO_SLOW, "The body came too slowly.", instance)
    if error.status_code == HTTPStatus.BAD_REQUEST:
        return problem_response(UNREADABLE, "The body cannot be read.", instance)
    status = HTTPStatus(error.status_code)
    name = status.phrase.lower().replace(" ", "-")
    return problem_response(ProblemType(name, status, status.phrase), f"{status.phrase}.", instance)


async def _scarce_resource(request: Request, error: Exception) -> Response:
    """The machine has no more files, memory or space for now; any other OSError is unexpected."""
    assert isinstance(error, OSError)
    if error.errno not in _SCARCE:
        raise error
    return problem_response(OVERLOADED, "The machine is at its limits.", request.state.request_id)


async def _unexpected(request: Request, _: Exception) -> Response:
    detail = "The error was written down under this request's id."
    return problem_response(UNEXPECTED, detail, request.state.request_id)
