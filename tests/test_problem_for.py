"""`problem_for` turns any error into its response; no application is needed for that."""

import errno
import json
from http import HTTPStatus
from typing import Any
from uuid import UUID

import pytest
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from imageapi.albums.errors import DuplicatePicture, InvalidChange
from imageapi.auth.errors import TokenExpired
from imageapi.database.errors import DatabaseUnavailable, ImageNotFound
from imageapi.database.rate_limits import RateExceeded
from imageapi.http.errors import (
    InvalidParameter,
    MethodNotAllowed,
    MisdirectedRequest,
    OriginRefused,
    Overloaded,
)
from imageapi.http.problem_handlers import MAX_LISTED_ERRORS, problem_for
from imageapi.imaging.errors import DecodersBusy

IMAGE = UUID("078fafdc-f05a-44c4-94df-c04244c7cda4")


@pytest.mark.parametrize(
    ("error", "status", "name", "headers"),
    [
        (TokenExpired("x"), 401, "token-refused", {"www-authenticate": 'Token realm="Image API"'}),
        (MethodNotAllowed(["GET", "HEAD"]), 405, "method-not-allowed", {"allow": "GET, HEAD"}),
        (DuplicatePicture(IMAGE), 409, "conflict", {}),
        (MisdirectedRequest(), 421, "misdirected", {}),
        (OriginRefused({"vary": "Origin"}), 400, "cors-refused", {"vary": "Origin"}),
        (RateExceeded(3.2), 429, "rate-limited", {"retry-after": "4"}),
        (RateExceeded(0), 429, "rate-limited", {"retry-after": "1"}),
        (DatabaseUnavailable(), 503, "database-away", {"retry-after": "2"}),
        (DecodersBusy(), 503, "decoders-busy", {"retry-after": "2"}),
        (Overloaded("x"), 503, "overloaded", {"retry-after": "2"}),
        (OSError(errno.ENOSPC, "/secret"), 503, "overloaded", {"retry-after": "2"}),
        (OSError(errno.EACCES, "/secret"), 500, "unexpected", {}),
        (RuntimeError("/secret"), 500, "unexpected", {}),
        (HTTPException(404), 404, "not-found", {}),
        (HTTPException(408), 408, "too-slow", {"connection": "close"}),
        (HTTPException(413), 413, "too-large", {}),
        (HTTPException(400), 400, "unreadable-request", {}),
        (HTTPException(418), 418, "i'm-a-teapot", {}),
    ],
)
def test_error_has_its_response(
    error: Exception, status: int, name: str, headers: dict[str, str]
) -> None:
    response = problem_for(error, "the-id")
    body = json.loads(bytes(response.body))
    assert (response.status_code, body["status"]) == (status, status)
    assert body["type"] == f"urn:imageapi:problem:{name}"
    assert body["instance"] == "the-id"
    assert body["detail"].endswith(".") or body["detail"] == "x"
    assert "secret" not in body["detail"]
    assert "errors" not in body
    own = {"content-type": "application/problem+json", "content-length": str(len(response.body))}
    assert dict(response.headers) == {**own, **headers}


@pytest.mark.parametrize(
    ("error", "path_params", "detail", "pointers"),
    [
        (InvalidParameter("/query/limit", "is odd"), (), "limit is odd.", ["/query/limit"]),
        (InvalidChange("tag", "is odd"), ("tag",), "tag is odd.", ["/path/tag"]),
        (InvalidChange("tag", "is odd"), ("public_id",), "tag is odd.", ["/body/tag"]),
        (ImageNotFound([IMAGE]), ("public_id",), "There is no such image.", []),
        (ImageNotFound(), (), "There is no such image.", []),
        (
            ImageNotFound([IMAGE]),
            ("album_id",),
            f"The album has no image {IMAGE}.",
            ["/body/public_ids"],
        ),
    ],
)
def test_response_points_at_what_was_wrong(
    error: Exception, path_params: tuple[str, ...], detail: str, pointers: list[str]
) -> None:
    body = json.loads(bytes(problem_for(error, "the-id", path_params).body))
    assert body["detail"] == detail
    assert [listed["pointer"] for listed in body.get("errors", [])] == pointers


def failure(kind: str, *location: str | int) -> dict[str, Any]:
    return {"type": kind, "loc": location, "msg": "is odd"}


def test_response_lists_the_first_errors_of_an_input() -> None:
    failures = [failure("missing", "body", "tags", number) for number in range(1000)]
    body = json.loads(bytes(problem_for(RequestValidationError(failures), "the-id").body))
    assert len(body["errors"]) == MAX_LISTED_ERRORS
    assert body["errors"][1] == {"pointer": "/body/tags/1", "detail": "is required"}
    assert body["detail"].startswith("tags.0 is required; tags.1 is required; ")
    assert body["status"] == HTTPStatus.UNPROCESSABLE_ENTITY


def test_body_that_is_no_json_cannot_be_read() -> None:
    error = RequestValidationError([failure("json_invalid", "body", 3)])
    body = json.loads(bytes(problem_for(error, "the-id").body))
    assert (body["status"], body["detail"]) == (400, "The body is not JSON.")
