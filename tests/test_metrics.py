"""What is counted and written down of requests, and that neither holds what nobody may know."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml
from fastapi import routing
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

import pictures
from conftest import Command
from factories import HEADER, PROJECT, claims, signed
from fixture_types import TokenFor
from imageapi import metrics as counts
from imageapi.app import create_app
from imageapi.auth.errors import TokenRefused
from imageapi.http import problem_types
from imageapi.metrics import _drop_dead_workers
from imageapi.settings import Settings

MONITORING = PROJECT / "examples/monitoring"
NAME = re.compile(r"\bimageapi_\w+")


def counted(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by its name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def metrics(client: httpx.AsyncClient) -> Any:
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    samples = counted(answer.text)

    def value(name: str, **labels: str) -> float:
        return samples.get((f"imageapi_{name}", frozenset(labels.items())), 0.0)

    return value


async def test_requests_and_refusals_are_counted(
    client: httpx.AsyncClient, album: str, may: TokenFor
) -> None:
    before = await metrics(client)
    path = f"/api/v1/albums/{album}/images/untag"
    expired = signed(HEADER, claims(album, "image_list", exp=1))
    for headers in (may(album), may(album, "image_tag"), {"Authorization": f"Bearer {expired}"}):
        await client.get(path, headers=headers)
    await client.get(path, headers=may(album))  # the lean way
    after = await metrics(client)

    def rise(name: str, **labels: str) -> float:
        return float(after(name, **labels) - before(name, **labels))

    route = "list_untagged_images"
    assert rise("requests_total", route=route, status="200") == 2
    assert rise("requests_total", route=route, status="403") == 1
    assert rise("requests_total", route=route, status="401") == 1
    assert rise("request_seconds_count", route=route) == 4
    assert rise("token_refusals_total", reason="TokenExpired") == 1
    assert rise("problems_total", type="token-refused") == 1
    assert rise("problems_total", type="ability-missing") == 1
    assert after("requests_under_way") == 1  # the one that asks


async def test_pictures_and_waits_are_counted(
    client: httpx.AsyncClient, album: str, may: TokenFor
) -> None:
    before = await metrics(client)
    content = pictures.jpeg(seed=77)
    for _ in range(2):
        answer = await client.post(
            f"/api/v1/albums/{album}/images",
            headers=may(album, "image_create"),
            files={"file": ("a.jpg", content)},
        )
    await client.get(answer.json()["thumbnails"]["large"])
    after = await metrics(client)
    for name, labels, rise in (
        ("uploads_total", {"result": "added"}, 1),
        ("uploads_total", {"result": "there"}, 1),
        ("uploaded_bytes_total", {}, len(content)),
        ("renditions_total", {"result": "made"}, 1),
    ):
        assert after(name, **labels) - before(name, **labels) == rise, name
    for use in ("read", "write"):
        name = "database_wait_seconds_count"
        assert after(name, use=use) > before(name, use=use)
    assert after("uploads_under_way") == 0


async def test_no_label_holds_what_was_sent(
    client: httpx.AsyncClient, album: str, may: TokenFor
) -> None:
    await client.request("BREW", f"/api/v1/albums/{album}/hunter2?token=hunter2")
    await client.get("/assets/hunter2/hunter2/hunter2/hunter2", headers=may(album))
    text = (await client.get("/metrics")).text
    assert "hunter2" not in text
    assert album not in text


def families() -> set[str]:
    """The names that Prometheus sees, and the parts of histograms."""
    names = set()
    for family in REGISTRY.collect():
        if family.name.startswith("imageapi_"):
            names.add(family.name + ("_total" if family.type == "counter" else ""))
            if family.type == "histogram":
                names |= {f"{family.name}_{part}" for part in ("bucket", "sum", "count")}
    return names


def expressions() -> Iterator[str]:
    for group in yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    for panel in json.loads((MONITORING / "dashboard.json").read_text())["panels"]:
        yield from (target["expr"] for target in panel["targets"])


def test_alerts_and_dashboard_ask_for_what_is_counted() -> None:
    asked = {name for expression in expressions() for name in NAME.findall(expression)}
    assert asked <= families()
    parts = ("_bucket", "_sum", "_count")
    assert {name for name in families() if not name.endswith(parts)} == {
        re.sub("_bucket$", "", name) for name in asked
    }


def test_alerts_and_dashboard_ask_by_labels_and_values_that_there_are() -> None:
    labels = {
        metric._name: {*metric._labelnames, "le"}
        for metric in vars(counts).values()
        if isinstance(metric, Counter | Gauge | Histogram)
    }
    routes = routing.iter_route_contexts(create_app(Settings()).routes)
    values = {
        "type": {kind.name for kind in problem_types.PROBLEM_TYPES.values()},
        "route": {route.name for route in routes},
        "reason": {each.__name__ for each in errors_below(TokenRefused)},
        "result": {"answered", "failed"},
        "status": {str(status.value) for status in HTTPStatus},
    }
    asked = 0
    for expression in expressions():
        known = [labels[re.sub(r"_(bucket|total)$", "", each)] for each in NAME.findall(expression)]
        for matchers in re.findall(r"imageapi_\w+{([^}]*)}", expression):
            for label, value in re.findall(r'(\w+)!?="([^"]*)"', matchers):
                assert all(label in each for each in known), expression
                assert value in values[label], expression
                asked += 1
        for by in re.findall(r"by \(([^)]*)\)", expression):
            assert all(set(by.split(", ")) <= each for each in known), expression
    assert asked > 8


def errors_below(error: type[Exception]) -> Iterator[type[Exception]]:
    yield error
    for each in error.__subclasses__():
        yield from errors_below(each)


def test_alerts_say_what_they_are_for() -> None:
    """Evaluated by Prometheus' own tool."""
    promtool = shutil.which("promtool")
    if promtool is None:
        assert "CI" not in os.environ, "CI installs promtool"
        pytest.skip("promtool is not installed; CI runs this")
    documented = PROJECT / "tests/alerts.yaml"
    asked = {
        each["alertname"]
        for test in yaml.safe_load(documented.read_text())["tests"]
        for each in test["alert_rule_test"]
        if "exp_alerts" in each
    }
    (group,) = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
    assert asked == {rule["alert"] for rule in group["rules"]}
    done = subprocess.run([promtool, "test", "rules", documented], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()


def test_docs_name_every_metric_with_its_labels() -> None:
    page = (PROJECT / "docs/operating.md").read_text()
    documented = {
        name: set(re.findall(r"`(\w+)`", labels))
        for name, labels in re.findall(r"^\| `(imageapi_\w+)` \| (.*?)\|", page, re.MULTILINE)
    }
    assert documented.keys() == {
        name for name in families() if not name.endswith(("_bucket", "_sum", "_count"))
    }
    for family in REGISTRY.collect():
        for sample in family.samples:
            name = family.name + ("_total" if family.type == "counter" else "")
            if name in documented:
                assert set(sample.labels) - {"le"} == documented[name]


def test_workers_count_together_and_the_killed_no_more(imageapi: Command, album: str) -> None:
    token = signed(HEADER, claims(album, "image_list"))
    headers = {"Authorization": f"Bearer {token}"}
    client = httpx.Client(trust_env=False, timeout=60)
    with imageapi.serving("--workers", "2") as service:
        url = f"{service.address}/api/v1/albums/{album}/images/untag"
        for _ in range(40):
            assert httpx.get(url, headers=headers, trust_env=False, timeout=60).status_code == 200

        def seen() -> dict[str, float]:
            samples = counted(client.get(f"{service.address}/metrics").text)
            return {
                name: sum(value for (each, _), value in samples.items() if each == name)
                for name in ("imageapi_requests_total", "imageapi_requests_under_way")
            }

        first = seen()
        assert first["imageapi_requests_total"] >= 40
        assert first["imageapi_requests_under_way"] == 1
        workers = [
            child
            for child in psutil.Process(service.process.pid).children()
            if "spawn_main" in " ".join(child.cmdline())
        ]
        assert len(workers) == 2
        os.kill(workers[0].pid, signal.SIGKILL)
        psutil.wait_procs(workers[:1])
        client.close()
        client = httpx.Client(trust_env=False, timeout=60)
        then = seen()
        client.close()
        assert then["imageapi_requests_total"] >= first["imageapi_requests_total"]
        assert then["imageapi_requests_under_way"] == 1


def test_worker_whose_number_is_somebody_elses_now_is_gone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    path = tmp_path / "gauge_livesum_1234.db"
    path.touch()
    _drop_dead_workers(tmp_path)
    assert not path.exists()


@contextmanager
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """Where traces are sent to, over HTTP on 127.0.0.1, and what has come."""
    came: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", came
        finally:
            server.shutdown()
            thread.join()


async def test_traces_are_sent_and_named_in_the_log(
    imageapi: Command, album: str, tmp_path: Path
) -> None:
    token = signed(HEADER, claims(album, "image_list"))
    headers = {"Authorization": f"Bearer {token}"}
    log_path = tmp_path / "log"
    with collector() as (endpoint, came), log_path.open("wb") as log:
        traced = {
            "IMAGEAPI_OPENTELEMETRY": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "NO_PROXY": "127.0.0.1",
        }
        with imageapi.serving(log=log, **traced) as service:
            async with httpx.AsyncClient(
                base_url=service.address, trust_env=False, timeout=60
            ) as client:
                for path in (
                    *[f"/api/v1/albums/{album}/images/untag"] * 2,
                    f"/assets/{album}/00000000-0000-4000-8000-000000000000/hunter2/mini-120.jpg",
                ):
                    await client.get(path, headers=headers)
            async with asyncio.timeout(20):
                while not came:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.05)
    spans = [
        span
        for body in came
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    lines = [json.loads(line) for line in log_path.read_text().splitlines()]
    in_log = [line["trace_id"] for line in lines if "trace_id" in line]
    assert [span.trace_id.hex() for span in spans] == in_log
    assert len(in_log) == 2
    assert {span.name for span in spans} == {"GET /api/v1/albums/{album_id}/images/untag"}
    for body in came:
        assert token.encode() not in body
        assert b"hunter2" not in body


def test_log_names_album_user_and_refusal_and_no_token(
    imageapi: Command, album: str, tmp_path: Path
) -> None:
    user = 'a "user"\nof\t' + "x" * 200
    good = signed(HEADER, claims(album, "image_list", user_id=user))
    expired = signed(HEADER, claims(album, "image_list", exp=1))
    with (tmp_path / "log").open("wb") as log, imageapi.serving(log=log) as service:
        url = f"{service.address}/api/v1/albums/{album}/images/untag"
        for token in (good, good, expired):
            httpx.get(
                url, headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=60
            )
    text = (tmp_path / "log").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    first, lean, refused = [line for line in lines if line["event"] == "request"]
    for line in (first, lean):
        assert (line["album"], line["user"]) == (album, user[:128])
        assert line.keys() == first.keys()
    assert refused["refused"] == "TokenExpired"
    assert "album" not in refused
    for token in (good, expired):
        assert token not in text
