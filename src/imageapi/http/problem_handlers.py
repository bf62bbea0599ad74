"""Every error's answer, in one place, as ``application/problem+json`` (RFC 9457).

The table says which error becomes which answer; an error that it does not name is a 500 that tells
nothing but the request's id.
"""

import errno
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from imageapi import metrics
from imageapi.albums.errors import Conflict, InvalidChange
from imageapi.auth.errors import AbilityMissing, IssuerUnavailable, TokenRefused
from imageapi.database.errors import (
    DatabaseUnavailable,
    ImageChanged,
    ImageNotFound,
    SchemaOutdated,
)
from imageapi.database.rate_limits import RateExceeded
from imageapi.http.errors import (
    BodyTooLarge,
    BodyTooSlow,
    InvalidParameter,
    NothingHere,
    NotMultipart,
    Overloaded,
    UnreadableRequest,
)
from imageapi.records.fields import never_null
from imageapi.storage.errors import (
    InvalidPicture,
    NotAPicture,
    ObjectNotFound,
    PictureTooLarge,
    StoreUnavailable,
)

MEDIA_TYPE = "application/problem+json"
#: Where `problem_responses` leaves the names of kinds.
PROBLEMS_KEY = "x-problems"
REALM = 'Token realm="Image API"'
RETRY_AFTER_SECONDS = 2

#: So much is told of what is wrong with an input: the first errors, and names as far as this.
MAX_LISTED_ERRORS = 20
MAX_NAME_CHARACTERS = 100

_SCARCE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.ENOSPC}

#: Prefix of every ``type``; docs/problems.md has a heading for each.
TYPE_PREFIX = "urn:imageapi:problem:"


@dataclass(frozen=True, slots=True)
class ProblemType:
    """A kind of problem: the last part of its ``type``, its status, its title, its headers."""

    name: str
    status: HTTPStatus
    title: str
    headers: tuple[tuple[str, str], ...] = ()


_RETRY = (("Retry-After", str(RETRY_AFTER_SECONDS)),)

DATABASE_UNAVAILABLE = ProblemType(
    "database-away", HTTPStatus.SERVICE_UNAVAILABLE, "The database is away", _RETRY
)
SCHEMA_OUTDATED = ProblemType(
    "schema-outdated", HTTPStatus.SERVICE_UNAVAILABLE, "The database is not migrated", _RETRY
)
OVERLOADED = ProblemType(
    "overloaded", HTTPStatus.SERVICE_UNAVAILABLE, "Too much is under way", _RETRY
)
RATE_LIMITED = ProblemType(
    "rate-limited", HTTPStatus.TOO_MANY_REQUESTS, "That was too often", _RETRY
)
TOO_SLOW = ProblemType(
    "too-slow", HTTPStatus.REQUEST_TIMEOUT, "The body comes too slowly", (("Connection", "close"),)
)
MISDIRECTED = ProblemType(
    "misdirected", HTTPStatus.MISDIRECTED_REQUEST, "Not a host of this service"
)
HEAD_TOO_LARGE = ProblemType(
    "head-too-large",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "The request's head is too large",
)
CORS_REFUSED = ProblemType("cors-refused", HTTPStatus.BAD_REQUEST, "No page from there may call")
UNREADABLE = ProblemType("unreadable-request", HTTPStatus.BAD_REQUEST, "The request cannot be read")
UNEXPECTED = ProblemType(
    "unexpected", HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong here"
)
NOT_FOUND = ProblemType("not-found", HTTPStatus.NOT_FOUND, "There is nothing here")
METHOD_NOT_ALLOWED = ProblemType(
    "method-not-allowed", HTTPStatus.METHOD_NOT_ALLOWED, "Not a method of this address"
)
TOO_LARGE = ProblemType("too-large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "That is too large")
INVALID_INPUT = ProblemType(
    "unfit-input", HTTPStatus.UNPROCESSABLE_ENTITY, "The input cannot be used"
)

PROBLEM_TYPES: Mapping[type[Exception], ProblemType] = {
    TokenRefused: ProblemType(
        "token-refused",
        HTTPStatus.UNAUTHORIZED,
        "A valid token is required",
        (("WWW-Authenticate", REALM),),
    ),
    AbilityMissing: ProblemType(
        "ability-missing", HTTPStatus.FORBIDDEN, "The token does not allow this"
    ),
    NothingHere: NOT_FOUND,
    ImageNotFound: NOT_FOUND,
    Conflict: ProblemType("conflict", HTTPStatus.CONFLICT, "Something there stands against it"),
    ImageChanged: ProblemType(
        "stale", HTTPStatus.PRECONDITION_FAILED, "The image has changed since"
    ),
    BodyTooLarge: TOO_LARGE,
    PictureTooLarge: TOO_LARGE,
    UnreadableRequest: UNREADABLE,
    NotMultipart: ProblemType(
        "not-a-form", HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "A form is needed here"
    ),
    NotAPicture: ProblemType(
        "not-a-picture", HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Not a picture that is read here"
    ),
    InvalidPicture: ProblemType(
        "unfit-picture", HTTPStatus.UNPROCESSABLE_ENTITY, "The picture cannot be taken"
    ),
    ObjectNotFound: NOT_FOUND,
    IssuerUnavailable: ProblemType(
        "issuer-away", HTTPStatus.SERVICE_UNAVAILABLE, "The issuer of tokens is away", _RETRY
    ),
    StoreUnavailable: ProblemType(
        "store-away", HTTPStatus.SERVICE_UNAVAILABLE, "The store of pictures is away", _RETRY
    ),
    DatabaseUnavailable: DATABASE_UNAVAILABLE,
    RateExceeded: RATE_LIMITED,
    Overloaded: OVERLOADED,
    BodyTooSlow: TOO_SLOW,
    SchemaOutdated: SCHEMA_OUTDATED,
    InvalidParameter: INVALID_INPUT,
    InvalidChange: INVALID_INPUT,
    RequestValidationError: INVALID_INPUT,
    Exception: UNEXPECTED,
}

#: What `admission` answers for every route, or the route itself.
ANY_TIME_ERRORS = (DatabaseUnavailable, SchemaOutdated, RateExceeded, Overloaded, Exception)
#: What every route that verifies a token may answer.
TOKEN_ERRORS = (TokenRefused, IssuerUnavailable)
#: What every route under an album may answer.
ALBUM_ERRORS = (*TOKEN_ERRORS, AbilityMissing, NothingHere)
#: What a route that takes JSON may answer besides.
JSON_BODY_ERRORS = (UnreadableRequest, BodyTooLarge, BodyTooSlow, RequestValidationError)


class InputError(BaseModel):
    """What was at fault in the input."""

    pointer: str = Field(
        description="Where it stands: `/query/`, `/path/` or `/body/`, and its name"
    )
    detail: str = Field(description="What is wrong with it")


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(
        json_schema_extra={"format": "uri"},
        description="`urn:imageapi:problem:` and the kind of problem",
    )
    title: str = Field(description="The kind of problem in a sentence")
    status: int = Field(description="The answer's status")
    detail: str = Field(description="What happened this time")
    instance: str = Field(description="The request's id, which stands in the log too")
    errors: list[InputError] | None = Field(
        default=None,
        json_schema_extra=never_null,
        exclude_if=lambda errors: errors is None,
        description="What was at fault, where it was the input",
    )


def problem_responses(
    *errors: type[Exception], turns_nobody_away: bool = False
) -> dict[int | str, dict[str, Any]]:
    """What a route says of its answers to these errors, for `document.complete`: their kinds.

    Whatever a route does, it may fail unexpectedly, and but for a few turn away who comes.
    """
    kinds: dict[int | str, dict[str, Any]] = {}
    at_any_time = (Exception,) if turns_nobody_away else ANY_TIME_ERRORS
    for kind in dict.fromkeys(PROBLEM_TYPES[error] for error in (*errors, *at_any_time)):
        of_status = kinds.setdefault(kind.status.value, {PROBLEMS_KEY: []})
        of_status[PROBLEMS_KEY].append(kind.name)
    return kinds


def problem_response(
    kind: ProblemType,
    detail: str,
    instance: str,
    *,
    headers: Mapping[str, str] | None = None,
    errors: Sequence[Mapping[str, str]] = (),
) -> Response:
    """The answer for a problem; ``instance`` is the request's id, ``detail`` is for the caller."""
    metrics.PROBLEMS.labels(kind.name).inc()
    body = Problem(
        type=TYPE_PREFIX + kind.name,
        title=kind.title,
        status=kind.status.value,
        detail=detail,
        instance=instance,
        errors=[InputError(**error) for error in errors] or None,
    )
    return Response(
        body.model_dump_json(),
        status_code=kind.status,
        headers={**dict(kind.headers), **(headers or {})},
        media_type=MEDIA_TYPE,
    )


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
