"""Each middleware alone, around the smallest application that shows what it promises."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Body, Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from opentelemetry import trace
from prometheus_client import REGISTRY
from starlette.datastructures import State
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from conftest import token_for
from factories import SECRET
from imageapi.api.dependencies import May
from imageapi.api.guarded_route import GuardedRoute
from imageapi.api.operations import _WithoutRanges
from imageapi.api.untagged_fast_path import UntaggedFastPath
from imageapi.auth.errors import AbilityMissing, TokenMissing
from imageapi.auth.tokens import Tokens
from imageapi.database.errors import DatabaseUnavailable, SchemaOutdated, SchemaTooNew
from imageapi.database.rate_limits import RateExceeded
from imageapi.http.admission import Admission
from imageapi.http.body_limits import MAX_JSON_BYTES, MIN_BYTES_PER_SECOND, BodyLimit
from imageapi.http.cors import Cors
from imageapi.http.head_requests import HeadRequests
from imageapi.http.request_log import RequestLog
from imageapi.http.response_headers import DocumentedHeaders
from imageapi.http.server_protocol import WHOLE_RESPONSE, HeaderCase

ID = "the-id"


class Unexpected(Exception):
    """What an application raises that is broken."""


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """The smallest application."""
    await PlainTextResponse("hello", headers={"X-Own": "kept"})(scope, receive, send)


async def never(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that must not be asked."""
    raise AssertionError(scope["path"])


async def ask(app: ASGIApp, method: str = "GET", path: str = "/", **more: Any) -> httpx.Response:
    """The answer of the application, which raises here what it raises."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.request(method, path, **more)


def with_state(app: ASGIApp, **state: Any) -> ASGIApp:
    """The application as it finds the scope within the others."""

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state": {"request_id": ID, **state}}, receive, send)

    return outer


def problem(answer: httpx.Response) -> str:
    """The problem's type, without what is the same in all; it names the request."""
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["instance"] == ID
    return str(answer.json()["type"].removeprefix("urn:imageapi:problem:"))


@pytest.mark.parametrize(
    "wrap",
    [
        RequestLog,
        DocumentedHeaders,
        HeadRequests,
        HeaderCase,
        lambda app: BodyLimit(app, 1),
        lambda app: Admission(app, State(), ["example.org"]),
        lambda app: Cors(app, ["https://example.org"]),
        lambda app: UntaggedFastPath(app, State()),
    ],
)
async def test_what_is_no_request_is_passed_on(wrap: Callable[[ASGIApp], ASGIApp]) -> None:
    seen: list[str] = []

    async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])
        await send(await receive())

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        seen.append(message["type"])

    await wrap(lifespan)({"type": "lifespan"}, receive, send)
    assert seen == ["lifespan", "lifespan.startup"]


# DocumentedHeaders


async def test_answer_has_the_documented_headers_before_its_own() -> None:
    answer = await ask(DocumentedHeaders(hello))
    names = [name.decode() for name, _ in answer.headers.raw]
    assert names == [
        *("cache-control", "pragma", "expires", "x-frame-options", "x-xss-protection"),
        *("x-content-type-options", "x-download-options", "x-permitted-cross-domain-policies"),
        *("content-type", "p3p", "x-request-id", "x-runtime", "content-length", "x-own"),
    ]
    assert answer.headers["X-Own"] == "kept"
    assert answer.text == "hello"


async def test_cache_control_of_an_answer_stands() -> None:
    cached = PlainTextResponse("hello", headers={"Cache-Control": "public, max-age=9"})
    assert (await ask(DocumentedHeaders(cached))).headers["Cache-Control"] == "public, max-age=9"


@pytest.mark.parametrize(("given", "kept"), [("a b/c", "abc"), ("x" * 300, "x" * 255)])
async def test_request_keeps_its_own_id(given: str, kept: str) -> None:
    async def show(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(scope["state"]["request_id"])(scope, receive, send)

    answer = await ask(DocumentedHeaders(show), headers={"X-Request-Id": given})
    assert answer.text == answer.headers["X-Request-Id"] == kept


@pytest.mark.parametrize("headers", [{}, {"X-Request-Id": "/ /"}])
async def test_request_without_an_id_gets_one(headers: dict[str, str]) -> None:
    answer = await ask(DocumentedHeaders(hello), headers=headers)
    assert uuid.UUID(answer.headers["X-Request-Id"]).version == 4


async def test_token_that_was_verified_within_is_in_the_answer() -> None:
    async def verify(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["verified_token"] = "a.b.c"
        await hello(scope, receive, send)

    assert (await ask(DocumentedHeaders(verify))).headers["X-Token"] == "a.b.c"
    assert "X-Token" not in (await ask(DocumentedHeaders(hello))).headers


async def test_what_can_be_compressed_varies_by_it() -> None:
    assert "Vary" not in (await ask(DocumentedHeaders(hello))).headers
    headers = (await ask(DocumentedHeaders(JSONResponse([])))).headers
    assert headers["Vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    ("own", "vary"),
    [
        ("Origin", "Accept-Encoding, Origin"),
        ("Accept, Origin", "Accept-Encoding, Accept, Origin"),
        ("Origin, accept-encoding", "Origin, accept-encoding"),
    ],
)
async def test_what_can_be_compressed_varies_by_all_else_too(own: str, vary: str) -> None:
    app = JSONResponse([], headers={"Vary": own})
    assert (await ask(DocumentedHeaders(app))).headers["Vary"] == vary
    picture = PlainTextResponse("hello", headers={"Vary": own})
    assert (await ask(DocumentedHeaders(picture))).headers["Vary"] == own


async def test_runtime_counts_from_where_the_request_began() -> None:
    began = time.perf_counter() - 100
    answer = await ask(with_state(DocumentedHeaders(hello), started=began))
    assert float(answer.headers["X-Runtime"]) >= 100
    assert float((await ask(DocumentedHeaders(hello))).headers["X-Runtime"]) < 60


# RequestLog


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Method, route, status and context of each line for a request."""
    lines: list[tuple[Any, ...]] = []

    def write(method: str, route: str, status: int, _: float, context: dict[str, Any]) -> None:
        lines.append((method, route, status, context))

    monkeypatch.setattr("imageapi.http.request_log.make_request_writer", lambda: write)
    return lines


async def test_every_request_is_a_line_and_a_count(lines: list[tuple[Any, ...]]) -> None:
    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        scope["endpoint"] = route
        scope["state"]["album_id"] = "an-album"
        await PlainTextResponse("", 418)(scope, receive, send)

    def counted() -> float:
        labels = {"route": "route", "status": "418"}
        return REGISTRY.get_sample_value("imageapi_requests_total", labels) or 0.0

    before = counted()
    assert (await ask(RequestLog(route), "PUT", "/secret?secret")).status_code == 418
    assert counted() == before + 1
    ((method, name, status, context),) = lines
    assert (method, name, status) == ("PUT", "route", 418)
    assert context["album_id"] == "an-album"
    assert "secret" not in str(lines)


async def test_request_without_a_route_is_a_line_too(lines: list[tuple[Any, ...]]) -> None:
    await ask(RequestLog(hello))
    assert [line[:3] for line in lines] == [("GET", None, 200)]


async def test_no_error_leaves_the_log_nor_do_its_words(
    lines: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        await hello(scope, receive, send)
        raise ValueError("secret")

    assert (await ask(with_state(RequestLog(fail)))).text == "hello"
    assert [line[:3] for line in lines] == [("GET", None, 200)]
    written = "".join(capsys.readouterr())
    for word in ("unexpected error", "ValueError", "test_middleware:", ID):
        assert word in written
    assert "secret" not in written


async def test_request_that_is_traced_says_so_in_its_line(lines: list[tuple[Any, ...]]) -> None:
    span = trace.NonRecordingSpan(trace.SpanContext(0xABC, 0xDEF, is_remote=False))
    with trace.use_span(span):
        await ask(RequestLog(hello))
    await ask(RequestLog(hello))
    assert [line[3].get("trace_id") for line in lines] == [f"{0xABC:032x}", None]


# HeadRequests


async def in_parts(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["method"] == "GET"

    async def parts() -> AsyncIterator[bytes]:
        yield b"hel"
        yield b"lo"

    await StreamingResponse(parts(), headers={"Content-Length": "5"})(scope, receive, send)


async def test_head_is_as_get_without_the_body() -> None:
    sent: dict[str, list[Message]] = {"GET": [], "HEAD": []}

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        async def note(message: Message) -> None:  # httpx shows no body of a HEAD
            sent[scope["method"]].append(message)
            await send(message)

        await HeadRequests(in_parts)(scope, receive, note)

    for method in sent:
        assert (await ask(outer, method)).status_code == 200
    assert b"".join(message.get("body", b"") for message in sent["GET"]) == b"hello"
    assert sent["HEAD"] == [
        {**message, "body": b""} if "body" in message else message for message in sent["GET"]
    ]


@pytest.mark.parametrize(("method", "is_head"), [("HEAD", True), ("GET", None), ("POST", None)])
async def test_application_knows_whether_a_body_is_wanted(
    method: str, is_head: bool | None
) -> None:
    seen: list[tuple[str, bool | None]] = []

    async def note(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope["method"], scope.get("state", {}).get("is_head")))
        await hello(scope, receive, send)

    await ask(HeadRequests(note), method)
    assert seen == [("GET" if is_head else method, is_head)]


async def test_route_of_a_head_is_known_outside_also_after_an_error() -> None:
    scopes: list[Scope] = []

    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        scope["endpoint"] = fail
        raise Unexpected

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await HeadRequests(fail)(scope, receive, send)

    with pytest.raises(Unexpected):
        await ask(outer, "HEAD")
    assert [(scope["method"], scope["endpoint"]) for scope in scopes] == [("HEAD", fail)]


# BodyLimit


async def count(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer how many bytes came, or with the status of what ended them."""
    try:
        answer = PlainTextResponse(str(len(await Request(scope, receive).body())))
    except HTTPException as error:
        answer = PlainTextResponse("", error.status_code)
    await answer(scope, receive, send)


async def body(*parts: bytes | float) -> AsyncIterator[bytes]:
    """Bytes, and pauses in seconds."""
    for part in parts:
        if isinstance(part, bytes):
            yield part
        else:
            await asyncio.sleep(part)


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([bytes(MAX_JSON_BYTES)], 200),
        ([bytes(MAX_JSON_BYTES + 1)], 413),
        ([bytes(MAX_JSON_BYTES), b"", b"x"], 413),
        ([], 200),
    ],
)
async def test_body_is_read_as_far_as_its_limit(parts: list[bytes], status: int) -> None:
    answer = await ask(BodyLimit(count, 60), "POST", content=body(*parts))
    assert answer.status_code == status
    assert answer.text == (str(len(b"".join(parts))) if status == 200 else "")


async def test_route_may_take_more() -> None:
    async def generous(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["limit_bytes"] += 1
        await count(scope, receive, send)

    limited = BodyLimit(generous, 60)
    for more, status in ((1, 200), (2, 413)):
        answer = await ask(limited, "POST", content=bytes(MAX_JSON_BYTES + more))
        assert answer.status_code == status


async def test_body_that_does_not_come_is_408() -> None:
    answer = await ask(BodyLimit(count, 0.05), "POST", content=body(b"x", 60.0))
    assert answer.status_code == 408


async def test_waits_for_a_body_add_up() -> None:
    """It is no help to send a byte from time to time."""
    drops = [part for _ in range(20) for part in (b"x", 0.05)]
    answer = await ask(BodyLimit(count, 0.3), "POST", content=body(*drops))
    assert answer.status_code == 408


async def test_who_has_sent_more_may_take_longer() -> None:
    content = body(bytes(30 * MIN_BYTES_PER_SECOND), 0.3, b"x")
    answer = await ask(BodyLimit(count, 0.1), "POST", content=content)
    assert answer.status_code == 200


async def test_time_that_the_application_takes_is_not_counted() -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        first = await receive()
        await asyncio.sleep(0.3)
        second = await receive()
        await PlainTextResponse(first["body"] + second["body"])(scope, receive, send)

    answer = await ask(BodyLimit(slow, 0.1), "POST", content=body(b"a", b"b"))
    assert answer.text == "ab"


async def test_client_may_stay_after_its_body() -> None:
    """However long the application waits for it to leave."""
    left = asyncio.Event()

    async def watch(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        leaving = asyncio.create_task(receive())
        await asyncio.sleep(0.3)
        assert not leaving.done()
        await hello(scope, receive, send)
        assert (await leaving)["type"] == "http.disconnect"
        left.set()

    assert (await ask(BodyLimit(watch, 0.1), "POST", content=b"x")).text == "hello"
    assert left.is_set()


# Admission


class Limiter:
    """Counts names, and raises what it is given."""

    def __init__(self, error: Exception | None = None) -> None:
        self.names: list[str] = []
        self._error = error

    async def count_request(self, name: str) -> None:
        self.names.append(name)
        if self._error is not None:
            raise self._error


def admitting(
    app: ASGIApp,
    hosts: Sequence[str] = (),
    limiter: Limiter | None = None,
    *,
    is_overloaded: bool = False,
) -> ASGIApp:
    admission = Admission(app, hosts, lambda: limiter)  # type: ignore[arg-type, return-value]
    return with_state(admission, is_overloaded=is_overloaded)


async def unread() -> AsyncIterator[bytes]:
    """A body that must not be read."""
    raise AssertionError
    yield b""


async def test_request_is_let_in() -> None:
    assert (await ask(admitting(hello, ["test"], Limiter()))).text == "hello"


async def test_too_many_requests_are_turned_away_before_their_bodies_are_read() -> None:
    answer = await ask(admitting(never, is_overloaded=True), "POST", content=unread())
    assert (answer.status_code, problem(answer)) == (503, "overloaded")
    assert answer.headers["Retry-After"] == "2"


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        *(("example.org", True), ("EXAMPLE.org:8000", True), ("a.b.example.com", True)),
        *(("example.com", False), ("example.org.evil.net", False), ("evil-example.com", False)),
    ],
)
async def test_request_for_another_host_is_turned_away(host: str, is_ours: bool) -> None:
    app = admitting(hello if is_ours else never, ["example.org", "*.example.com"])
    answer = await ask(app, headers={"Host": host})
    assert answer.status_code == (200 if is_ours else 421)
    assert is_ours or problem(answer) == "misdirected"


@pytest.mark.parametrize(
    ("error", "status", "type_", "retry_after"),
    [
        (RateExceeded(7.2), 429, "rate-limited", "8"),
        (RateExceeded(0), 429, "rate-limited", "1"),
        (DatabaseUnavailable(), 503, "database-away", "2"),
        (SchemaOutdated(), 503, "schema-outdated", "2"),
        (SchemaTooNew("9001", "0004"), 503, "schema-outdated", "2"),
    ],
)
async def test_address_that_may_not_ask_now_is_turned_away(
    error: Exception, status: int, type_: str, retry_after: str
) -> None:
    answer = await ask(admitting(never, limiter=Limiter(error)), "POST", content=unread())
    assert (answer.status_code, problem(answer)) == (status, type_)
    assert answer.headers["Retry-After"] == retry_after


@pytest.mark.parametrize(
    ("client", "names"),
    [
        (("192.0.2.1", 1), ["192.0.2.1"]),
        (("2001:db8:0:1:2:3:4:5", 1), ["2001:db8:0:1::/64"]),
        (None, []),  # over a Unix socket
    ],
)
async def test_addresses_are_counted_by_their_networks(
    client: tuple[str, int] | None, names: list[str]
) -> None:
    limiter = Limiter()
    admission = admitting(hello, limiter=limiter)

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        await admission({**scope, "client": client}, receive, send)

    assert (await ask(outer)).text == "hello"
    assert limiter.names == names


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/readyz"])
async def test_who_watches_the_service_is_always_let_in(path: str) -> None:
    limiter = Limiter(RateExceeded(1))
    app = admitting(hello, ["example.org"], limiter, is_overloaded=True)
    assert (await ask(app, path=path)).text == "hello"
    assert limiter.names == []


# Cors


ORIGIN = "https://example.org"


def preflight(method: str = "PUT", header: str = "If-Match", origin: str = ORIGIN) -> Any:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": header,
    }


async def test_preflight_of_an_allowed_origin_is_answered_by_the_middleware() -> None:
    answer = await ask(Cors(never, [ORIGIN]), "OPTIONS", headers=preflight())
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "PUT" in answer.headers["Access-Control-Allow-Methods"]
    assert "If-Match" in answer.headers["Access-Control-Allow-Headers"]
    assert answer.headers["Access-Control-Max-Age"] == "3600"


@pytest.mark.parametrize("origin", ["https://evil.example", "null", f"{ORIGIN}.evil.example"])
async def test_page_that_may_not_call_gets_a_problem(origin: str) -> None:
    app = with_state(Cors(never, [ORIGIN]))
    answer = await ask(app, "OPTIONS", headers=preflight(origin=origin))
    assert (answer.status_code, problem(answer)) == (400, "cors-refused")
    assert answer.json()["detail"] == f"IMAGEAPI_CORS_ORIGINS does not name the origin {origin}."
    assert answer.headers["Vary"] == "Origin"
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("origin", [ORIGIN, "https://evil.example"])
async def test_answer_may_be_seen_by_those_pages_alone(origin: str) -> None:
    answer = await ask(Cors(hello, [ORIGIN]), headers={"Origin": origin})
    assert answer.text == "hello"
    assert answer.headers.get("Access-Control-Allow-Origin") == (
        ORIGIN if origin == ORIGIN else None
    )
    if origin == ORIGIN:
        assert "X-Total-Count" in answer.headers["Access-Control-Expose-Headers"]


# HeaderCase


async def test_names_of_headers_go_out_as_they_are_written_in_the_contract() -> None:
    answer = await ask(HeaderCase(DocumentedHeaders(hello)))
    names = {b"%b" % name for name, _ in answer.headers.raw}
    assert {b"Cache-Control", b"X-XSS-Protection", b"P3P", b"Content-Length", b"x-own"} < names


async def test_answer_in_one_piece_is_offered_by_our_server_alone() -> None:
    async def show(scope: Scope, receive: Receive, send: Send) -> None:
        await JSONResponse(WHOLE_RESPONSE in scope.get("extensions", {}))(scope, receive, send)

    assert (await ask(HeaderCase(show))).json() is False


# Without ranges


async def test_application_is_not_asked_for_ranges(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    files = _WithoutRanges(StaticFiles(directory=tmp_path))
    for ranges in ("bytes=1-2", "bytes=9-", "nonsense"):
        answer = await ask(files, path="/a.txt", headers={"Range": ranges})
        assert (answer.status_code, answer.text) == (200, "hello")


async def test_other_headers_are_kept_and_the_scope_is_as_it_was() -> None:
    scopes: list[Scope] = []

    async def show(scope: Scope, receive: Receive, send: Send) -> None:
        shown = {name.decode(): value.decode() for name, value in scope["headers"]}
        await JSONResponse(shown)(scope, receive, send)

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await _WithoutRanges(show)(scope, receive, send)

    answer = await ask(outer, headers={"Range": "bytes=1-2", "X-Other": "kept"})
    assert answer.json()["x-other"] == "kept"
    assert "range" not in answer.json()
    assert dict(scopes[0]["headers"])[b"range"] == b"bytes=1-2"


# GuardedRoute


@pytest.fixture
def guarded() -> FastAPI:
    """An application with a route that takes JSON and asks for an ability."""
    router = APIRouter(route_class=GuardedRoute)

    @router.post("/{album_id}")
    async def tag(
        album_id: Annotated[str, Depends(May("image_tag"))], tags: Annotated[list[str], Body()]
    ) -> dict[str, list[str]]:
        return {album_id: tags}

    app = FastAPI()
    app.include_router(router)
    app.state.resources = SimpleNamespace(tokens=Tokens(SECRET), user_rate_limiter=None)
    app.add_exception_handler(RequestValidationError, lambda *_: PlainTextResponse("", 422))
    return app


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({}, TokenMissing),
        (token_for("album", "image_list"), AbilityMissing),
        (token_for("another", "image_tag"), AbilityMissing),
    ],
)
async def test_body_of_who_may_not_is_not_read(
    guarded: FastAPI, headers: dict[str, str], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await ask(guarded, "POST", "/album", headers=headers, content=unread())


async def test_body_of_who_may_is_read_afterwards(guarded: FastAPI) -> None:
    headers = token_for("album", "image_tag")
    answer = await ask(guarded, "POST", "/album", headers=headers, json=["kitchen"])
    assert answer.json() == {"album": ["kitchen"]}
    answer = await ask(guarded, "POST", "/album", headers=headers, content=b'["kitchen"')
    assert answer.status_code == 422


async def test_user_is_counted_once_for_both(guarded: FastAPI) -> None:
    """By the guard before the body, and by the route after it."""
    limiter = guarded.state.resources.user_rate_limiter = Limiter()
    headers = token_for("album", "image_tag")
    await ask(guarded, "POST", "/album", headers=headers, json=[])
    assert len(limiter.names) == 1


# UntaggedFastPath


QUEUE = "/api/v1/albums/album/images/untag"


class Queue:
    """Stands for the cache: has a list, nothing, or an error."""

    def __init__(self, kept: Any = None, error: Exception | None = None) -> None:
        self._kept, self._error = kept, error
        self.asked: list[str] = []

    async def find_list(self, album_id: str) -> Any:
        self.asked.append(album_id)
        if self._error is not None:
            raise self._error
        return self._kept


async def fast(queue: Queue, app: ASGIApp, path: str = QUEUE, **headers: str) -> httpx.Response:
    """The fast path's answer to a token that was verified before."""
    tokens = Tokens(SECRET)
    bearing = token_for("album")
    await tokens.verify_header(bearing["Authorization"].encode())
    resources = SimpleNamespace(tokens=tokens, untagged_cache=queue)
    state = State({"resources": resources})
    return await ask(UntaggedFastPath(app, state), path=path, headers={**bearing, **headers})


async def test_list_that_is_kept_is_answered_without_the_application() -> None:
    kept = SimpleNamespace(text=b'[{"a":1}]', encoded={})
    answer = await fast(Queue(kept), never)
    assert (answer.status_code, answer.json()) == (200, [{"a": 1}])
    assert answer.headers["X-Token"] in answer.request.headers["Authorization"]


@pytest.mark.parametrize("queue", [Queue(None), Queue(error=Unexpected())])
async def test_list_that_is_not_kept_is_left_to_the_application(queue: Queue) -> None:
    assert (await fast(queue, hello)).text == "hello"
    assert queue.asked == ["album"]


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (f"{QUEUE}?limit=5", {}),
        (QUEUE, {"Origin": "https://example.org"}),
        (QUEUE, {"Authorization": "Bearer of.another.token"}),
        (QUEUE.replace("album/", "another/"), {}),
        ("/elsewhere", {}),
    ],
)
async def test_what_is_unusual_is_left_to_the_application(
    path: str, headers: dict[str, str]
) -> None:
    queue = Queue(SimpleNamespace(text=b"[]", encoded={}))
    assert (await fast(queue, hello, path, **headers)).text == "hello"
    assert queue.asked == []


async def test_database_that_is_away_is_not_waited_for_twice() -> None:
    answer = await fast(Queue(error=DatabaseUnavailable()), never)
    assert answer.status_code == 503
    assert json.loads(answer.content)["type"] == "urn:imageapi:problem:database-away"
