"""Problem types (RFC 9457): the table that gives each error its type, and the response of a type.

All error responses are ``application/problem+json``.
"""

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
    MethodNotAllowed,
    MisdirectedRequest,
    NothingHere,
    NotMultipart,
    OriginRefused,
    Overloaded,
    UnreadableRequest,
)
from imageapi.imaging.errors import DecodersBusy, InvalidPicture, NotAPicture, PictureTooLarge
from imageapi.records.fields import forbid_null
from imageapi.storage.errors import ObjectNotFound, StoreUnavailable

MEDIA_TYPE = "application/problem+json"
REALM = 'Token realm="Image API"'
RETRY_AFTER_SECONDS = 2

#: Prefix of every ``type``; docs/problems.md has a heading for each.
TYPE_PREFIX = "urn:imageapi:problem:"


@dataclass(frozen=True, slots=True)
class ProblemType:
    """A type of problem, as its responses show it.

    ``name`` is the last part of their ``type``; ``headers`` are those of every such response.
    """

    name: str
    status: HTTPStatus
    title: str
    headers: tuple[tuple[str, str], ...] = ()


_RETRY = (("Retry-After", str(RETRY_AFTER_SECONDS)),)

# Types that several errors have, or that are needed without an error.
HEAD_TOO_LARGE = ProblemType(
    "head-too-large",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "The request's head is too large",
)
UNREADABLE = ProblemType("unreadable-request", HTTPStatus.BAD_REQUEST, "The request cannot be read")
UNEXPECTED = ProblemType(
    "unexpected", HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong here"
)
_NOT_FOUND = ProblemType("not-found", HTTPStatus.NOT_FOUND, "There is nothing here")
_TOO_LARGE = ProblemType("too-large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "That is too large")
_INVALID_INPUT = ProblemType(
    "unfit-input", HTTPStatus.UNPROCESSABLE_ENTITY, "The input cannot be used"
)

#: An error has the type of the first of its classes that is here.
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
    NothingHere: _NOT_FOUND,
    ImageNotFound: _NOT_FOUND,
    ObjectNotFound: _NOT_FOUND,
    MethodNotAllowed: ProblemType(
        "method-not-allowed", HTTPStatus.METHOD_NOT_ALLOWED, "Not a method of this address"
    ),
    Conflict: ProblemType("conflict", HTTPStatus.CONFLICT, "Something there stands against it"),
    ImageChanged: ProblemType(
        "stale", HTTPStatus.PRECONDITION_FAILED, "The image has changed since"
    ),
    BodyTooLarge: _TOO_LARGE,
    PictureTooLarge: _TOO_LARGE,
    BodyTooSlow: ProblemType(
        "too-slow",
        HTTPStatus.REQUEST_TIMEOUT,
        "The body comes too slowly",
        (("Connection", "close"),),
    ),
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
    InvalidParameter: _INVALID_INPUT,
    InvalidChange: _INVALID_INPUT,
    RequestValidationError: _INVALID_INPUT,
    OriginRefused: ProblemType(
        "cors-refused",
        HTTPStatus.BAD_REQUEST,
        "No page from there may call",
        (("Vary", "Origin"),),
    ),
    MisdirectedRequest: ProblemType(
        "misdirected", HTTPStatus.MISDIRECTED_REQUEST, "Not a host of this service"
    ),
    RateExceeded: ProblemType(
        "rate-limited", HTTPStatus.TOO_MANY_REQUESTS, "That was too often", _RETRY
    ),
    Overloaded: ProblemType(
        "overloaded", HTTPStatus.SERVICE_UNAVAILABLE, "Too much is under way", _RETRY
    ),
    DatabaseUnavailable: ProblemType(
        "database-away", HTTPStatus.SERVICE_UNAVAILABLE, "The database is away", _RETRY
    ),
    SchemaOutdated: ProblemType(
        "schema-outdated", HTTPStatus.SERVICE_UNAVAILABLE, "The database is not migrated", _RETRY
    ),
    IssuerUnavailable: ProblemType(
        "issuer-away", HTTPStatus.SERVICE_UNAVAILABLE, "The issuer of tokens is away", _RETRY
    ),
    StoreUnavailable: ProblemType(
        "store-away", HTTPStatus.SERVICE_UNAVAILABLE, "The store of pictures is away", _RETRY
    ),
    DecodersBusy: ProblemType(
        "decoders-busy", HTTPStatus.SERVICE_UNAVAILABLE, "No picture can be decoded now", _RETRY
    ),
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
        json_schema_extra=forbid_null,
        exclude_if=lambda errors: errors is None,
        description="What was at fault, where it was the input",
    )


def problem_response(
    problem_type: ProblemType,
    detail: str,
    request_id: str,
    *,
    headers: Mapping[str, str] | None = None,
    errors: Sequence[InputError] = (),
) -> Response:
    """Return the response of a problem, and count it.

    ``detail`` is a sentence for the client; ``headers`` come beside those of the type, or in their
    place.
    """
    metrics.PROBLEMS.labels(problem_type.name).inc()
    problem = Problem(
        type=TYPE_PREFIX + problem_type.name,
        title=problem_type.title,
        status=problem_type.status.value,
        detail=detail,
        instance=request_id,
        errors=list(errors) or None,
    )
    return Response(
        problem.model_dump_json(),
        status_code=problem_type.status,
        headers={**dict(problem_type.headers), **(headers or {})},
        media_type=MEDIA_TYPE,
    )
