"""The problem types: which error has which, and the response of each (RFC 9457)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field

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
REALM = 'Token realm="Image API"'
RETRY_AFTER_SECONDS = 2

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
