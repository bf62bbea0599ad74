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
from imageapi.albums.errors import Conflict, UnfitChange
from imageapi.api.errors import (
    NotAForm,
    NotThere,
    Overloaded,
    TooLarge,
    TooSlow,
    UnfitParameter,
    Unreadable,
)
from imageapi.auth.errors import AbilityMissing, IssuerAway, TokenRefused
from imageapi.database.errors import DatabaseAway, ImageChanged, ImageNotFound, SchemaOutdated
from imageapi.database.rates import TooOften
from imageapi.pictures.errors import (
    NotAPicture,
    NotInStore,
    StoreAway,
    TooManyBytes,
    UnfitPicture,
)
from imageapi.records.values import never_null

MEDIA_TYPE = "application/problem+json"
#: Where `problem_responses` leaves the names of kinds.
PROBLEMS = "x-problems"
REALM = 'Token realm="Image API"'
RETRY_AFTER_SECONDS = 2

#: So much is told of what is wrong with an input: the first errors, and names as far as this.
MOST_ERRORS = 20
LONGEST_NAME = 100

_SCARCE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.ENOSPC}

#: Prefix of every ``type``; docs/problems.md has a heading for each.
TYPES = "urn:imageapi:problem:"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem: the last part of its ``type``, its status, its title, its headers."""

    name: str
    status: HTTPStatus
    title: str
    headers: tuple[tuple[str, str], ...] = ()


_RETRY = (("Retry-After", str(RETRY_AFTER_SECONDS)),)

DATABASE_AWAY = Kind(
    "database-away", HTTPStatus.SERVICE_UNAVAILABLE, "The database is away", _RETRY
)
SCHEMA_OUTDATED = Kind(
    "schema-outdated", HTTPStatus.SERVICE_UNAVAILABLE, "The database is not migrated", _RETRY
)
OVERLOADED = Kind("overloaded", HTTPStatus.SERVICE_UNAVAILABLE, "Too much is under way", _RETRY)
RATE_LIMITED = Kind("rate-limited", HTTPStatus.TOO_MANY_REQUESTS, "That was too often", _RETRY)
TOO_SLOW = Kind(
    "too-slow", HTTPStatus.REQUEST_TIMEOUT, "The body comes too slowly", (("Connection", "close"),)
)
MISDIRECTED = Kind("misdirected", HTTPStatus.MISDIRECTED_REQUEST, "Not a host of this service")
HEAD_TOO_LARGE = Kind(
    "head-too-large",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "The request's head is too large",
)
CORS_REFUSED = Kind("cors-refused", HTTPStatus.BAD_REQUEST, "No page from there may call")
UNREADABLE = Kind("unreadable-request", HTTPStatus.BAD_REQUEST, "The request cannot be read")
UNEXPECTED = Kind("unexpected", HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong here")
NOT_FOUND = Kind("not-found", HTTPStatus.NOT_FOUND, "There is nothing here")
METHOD = Kind("method-not-allowed", HTTPStatus.METHOD_NOT_ALLOWED, "Not a method of this address")
TOO_LARGE = Kind("too-large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "That is too large")
UNFIT = Kind("unfit-input", HTTPStatus.UNPROCESSABLE_ENTITY, "The input cannot be used")

KINDS: Mapping[type[Exception], Kind] = {
    TokenRefused: Kind(
        "token-refused",
        HTTPStatus.UNAUTHORIZED,
        "A valid token is required",
        (("WWW-Authenticate", REALM),),
    ),
    AbilityMissing: Kind("ability-missing", HTTPStatus.FORBIDDEN, "The token does not allow this"),
    NotThere: NOT_FOUND,
    ImageNotFound: NOT_FOUND,
    Conflict: Kind("conflict", HTTPStatus.CONFLICT, "Something there stands against it"),
    ImageChanged: Kind("stale", HTTPStatus.PRECONDITION_FAILED, "The image has changed since"),
    TooLarge: TOO_LARGE,
    TooManyBytes: TOO_LARGE,
    Unreadable: UNREADABLE,
    NotAForm: Kind("not-a-form", HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "A form is needed here"),
    NotAPicture: Kind(
        "not-a-picture", HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Not a picture that is read here"
    ),
    UnfitPicture: Kind(
        "unfit-picture", HTTPStatus.UNPROCESSABLE_ENTITY, "The picture cannot be taken"
    ),
    NotInStore: NOT_FOUND,
    IssuerAway: Kind(
        "issuer-away", HTTPStatus.SERVICE_UNAVAILABLE, "The issuer of tokens is away", _RETRY
    ),
    StoreAway: Kind(
        "store-away", HTTPStatus.SERVICE_UNAVAILABLE, "The store of pictures is away", _RETRY
    ),
    DatabaseAway: DATABASE_AWAY,
    TooOften: RATE_LIMITED,
    Overloaded: OVERLOADED,
    TooSlow: TOO_SLOW,
    SchemaOutdated: SCHEMA_OUTDATED,
    UnfitParameter: UNFIT,
    UnfitChange: UNFIT,
    RequestValidationError: UNFIT,
    Exception: UNEXPECTED,
}

#: What `admission` answers for every route, or the route itself.
AT_ANY_TIME = (DatabaseAway, SchemaOutdated, TooOften, Overloaded, Exception)
#: What every route that verifies a token may answer.
OF_TOKEN = (TokenRefused, IssuerAway)
#: What every route under an album may answer.
OF_ALBUM = (*OF_TOKEN, AbilityMissing, NotThere)
#: What a route that takes JSON may answer besides.
OF_JSON = (Unreadable, TooLarge, TooSlow, RequestValidationError)


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
    at_any_time = (Exception,) if turns_nobody_away else AT_ANY_TIME
    for kind in dict.fromkeys(KINDS[error] for error in (*errors, *at_any_time)):
        of_status = kinds.setdefault(kind.status.value, {PROBLEMS: []})
        of_status[PROBLEMS].append(kind.name)
    return kinds


def problem(
    kind: Kind,
    detail: str,
    instance: str,
    *,
    headers: Mapping[str, str] | None = None,
    errors: Sequence[Mapping[str, str]] = (),
) -> Response:
    """The answer for a problem; ``instance`` is the request's id, ``detail`` is for the caller."""
    metrics.PROBLEMS.labels(kind.name).inc()
    body = Problem(
        type=TYPES + kind.name,
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
    for error_type in KINDS:
        app.add_exception_handler(error_type, _expected)
    app.add_exception_handler(TokenRefused, _token_refused)
    app.add_exception_handler(TooOften, _too_often)
    app.add_exception_handler(ImageNotFound, _not_found)
    app.add_exception_handler(UnfitParameter, _unfit_parameter)
    app.add_exception_handler(UnfitChange, _unfit_change)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(OSError, _out_of)
    app.add_exception_handler(Exception, _unexpected)


async def _expected(request: Request, error: Exception) -> Response:
    kind = next(KINDS[base] for base in type(error).__mro__ if base in KINDS)
    return problem(kind, str(error), request.state.request_id)


def rate_limited(error: TooOften, instance: str) -> Response:
    """The answer to who asked too often: ``Retry-After`` says when there is room again."""
    headers = {"Retry-After": str(math.ceil(error.seconds) or 1)}
    return problem(RATE_LIMITED, str(error), instance, headers=headers)


async def _too_often(request: Request, error: Exception) -> Response:
    assert isinstance(error, TooOften)
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
    return problem(NOT_FOUND, detail, request.state.request_id, errors=errors)


async def _unfit_parameter(request: Request, error: Exception) -> Response:
    assert isinstance(error, UnfitParameter)
    return _unfit(request, error.pointer, error)


async def _unfit_change(request: Request, error: Exception) -> Response:
    assert isinstance(error, UnfitChange)
    part = "path" if error.field in request.path_params else "body"
    return _unfit(request, f"/{part}/{error.field}", error)


def _unfit(request: Request, pointer: str, error: Exception) -> Response:
    errors = [{"pointer": pointer, "detail": str(error)}]
    return problem(UNFIT, f"{pointer} {error}.", request.state.request_id, errors=errors)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    told = error.errors()[:MOST_ERRORS]
    errors = [
        {"pointer": _pointer(each["loc"]), "detail": each["msg"]}  # of names that were sent, too
        for each in told
    ]
    if any(each["type"] == "json_invalid" for each in told):
        return problem(UNREADABLE, "The body is not JSON.", request.state.request_id)
    detail = "; ".join(f"{each['pointer']}: {each['detail']}" for each in errors)
    return problem(UNFIT, detail, request.state.request_id, errors=errors)


def _pointer(place: Sequence[str | int]) -> str:
    return "/" + "/".join(str(part)[:LONGEST_NAME] for part in place)


async def _http(request: Request, error: Exception) -> Response:
    """What the framework itself refuses: no route, no such method, a body it cannot read."""
    assert isinstance(error, HTTPException)
    instance = request.state.request_id
    if error.status_code == HTTPStatus.NOT_FOUND:
        return problem(NOT_FOUND, "There is nothing at this address.", instance)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allow = ", ".join(request.app.state.methods_of(request.scope["path"]))
        detail = f"This address knows {allow}."
        return problem(METHOD, detail, instance, headers={"Allow": allow})
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return problem(TOO_LARGE, "The body is larger than what is read here.", instance)
    if error.status_code == HTTPStatus.REQUEST_TIMEOUT:
        return problem(TOO_SLOW, "The body came too slowly.", instance)
    if error.status_code == HTTPStatus.BAD_REQUEST:
        return problem(UNREADABLE, "The body cannot be read.", instance)
    status = HTTPStatus(error.status_code)
    name = status.phrase.lower().replace(" ", "-")
    return problem(Kind(name, status, status.phrase), f"{status.phrase}.", instance)


async def _out_of(request: Request, error: Exception) -> Response:
    """The machine has no more files, memory or space for now; any other OSError is unexpected."""
    assert isinstance(error, OSError)
    if error.errno not in _SCARCE:
        raise error
    return problem(OVERLOADED, "The machine is at its limits.", request.state.request_id)


async def _unexpected(request: Request, _: Exception) -> Response:
    detail = "The error was written down under this request's id."
    return problem(UNEXPECTED, detail, request.state.request_id)
