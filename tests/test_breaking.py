"""The OpenAPI document breaks nothing of the last released one, and what does is named."""

import copy
import json
from typing import Any

import pytest
from fastapi import FastAPI

from breaking import breaking_changes
from factories import PROJECT
from imageapi import __version__
from imageapi.api.header_docs import HEADERS_OF_ALL, HEADERS_OF_MOST
from imageapi.records.fields import GIVEN_TAG_SCHEMA

RELEASED = sorted(
    (PROJECT / "docs/openapi").glob("*.json"),
    key=lambda path: tuple(map(int, path.stem.split("."))),
)
UNTAG = "/api/v1/albums/{album_id}/images/untag"
IMAGE = "/api/v1/albums/{album_id}/images/{public_id}"


def last_released() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(RELEASED[-1].read_text())
    return document


def series(version: str) -> tuple[str, ...]:
    """What changes when something breaks (Semantic Versioning 2.0.0 §4, §8): 0.1, or 1."""
    major, minor, _ = version.split(".")
    return (major, minor) if major == "0" else (major,)


def test_nothing_breaks_clients_of_the_last_release(app: FastAPI) -> None:
    released = last_released()
    assert released["info"]["version"] == RELEASED[-1].stem
    if series(released["info"]["version"]) == series(__version__):
        changes = breaking_changes(released, app.openapi())
        # Every response still has these headers: the introduction names them, once.
        named_once = [f" header {name} is gone" for name in (*HEADERS_OF_ALL, *HEADERS_OF_MOST)]
        # The contract forbids tags that lead elsewhere in a path.
        of_tags = f" has another pattern: {GIVEN_TAG_SCHEMA['pattern']}"
        meant = (*named_once, of_tags)
        assert [change for change in changes if not change.endswith(meant)] == []


def test_a_release_has_its_document() -> None:
    heading = f"## {__version__} ("
    unreleased = f"{heading}unreleased)" in (PROJECT / "CHANGELOG.md").read_text()
    assert unreleased != (RELEASED[-1].stem == __version__)


def test_a_document_breaks_nothing_of_itself(app: FastAPI) -> None:
    assert breaking_changes(app.openapi(), app.openapi()) == []


def schema(document: dict[str, Any], name: str) -> Any:
    return document["components"]["schemas"][name]


def untag(document: dict[str, Any]) -> Any:
    return document["paths"][UNTAG]["get"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda it: it["paths"].pop(UNTAG), f"GET {UNTAG} is gone"),
        (lambda it: untag(it).update(operationId="untagged"), "was listUntaggedImages, and is"),
        (lambda it: untag(it)["parameters"].pop(1), "query limit is gone"),
        (lambda it: untag(it)["parameters"][1].update(required=True), "query limit is required"),
        (
            lambda it: untag(it)["parameters"][1]["schema"].update(maximum=100),
            "query limit has another maximum: 100",
        ),
        (
            lambda it: untag(it)["parameters"].append(
                {"in": "query", "name": "new", "required": True, "schema": {"type": "string"}}
            ),
            "query new is new and required",
        ),
        (lambda it: untag(it)["responses"].pop("401"), "401 is gone"),
        (
            lambda it: untag(it)["responses"]["200"]["headers"].pop("Link"),
            "200 header Link is gone",
        ),
        (lambda it: untag(it).update(security=[]), "takes no"),
        (lambda it: untag(it)["responses"]["200"]["content"].clear(), "json is gone"),
        (lambda it: schema(it, "Image")["properties"].pop("gps"), "[].gps is gone"),
        (lambda it: schema(it, "Image")["required"].remove("width"), "[].width is optional"),
        (
            lambda it: schema(it, "Image")["properties"]["width"].update(type=["integer", "null"]),
            "[].width was integer, and is",
        ),
        (
            lambda it: schema(it, "Image")["properties"]["rotation"]["enum"].append(45),
            "[].rotation has other values",
        ),
        (
            lambda it: schema(it, "Image")["properties"]["width"].update(format="int64"),
            "[].width has another format: int64",
        ),
        (
            lambda it: schema(it, "ImageChanges").update(required=["rotation"]),
            f"PATCH {IMAGE} body.rotation is required",
        ),
        (
            lambda it: schema(it, "ImageChanges")["properties"]["rotation"]["enum"].remove(90),
            "body.rotation has other values",
        ),
        (
            lambda it: schema(it, "ImageChanges")["properties"].pop("crop_x"),
            "body.crop_x is gone",
        ),
        (
            lambda it: schema(it, "ImageState")["properties"].pop("tags"),
            "before[].tags is gone",
        ),
    ],
)
def test_what_breaks_is_named(app: FastAPI, change: Any, named: str) -> None:
    old, new = copy.deepcopy(app.openapi()), copy.deepcopy(app.openapi())
    change(new)
    assert any(named in line for line in breaking_changes(old, new)), breaking_changes(old, new)


@pytest.mark.parametrize(
    "change",
    [
        lambda it: schema(it, "Image")["properties"].update(new={"type": "string"}),
        lambda it: schema(it, "Image")["required"].append("new"),
        lambda it: schema(it, "ImageChanges")["properties"].update(new={"type": "string"}),
        lambda it: schema(it, "TagChanges").update(required=[]),
        lambda it: untag(it)["parameters"][1]["schema"].update(maximum=5000),
        lambda it: untag(it)["parameters"].append(
            {"in": "query", "name": "new", "schema": {"type": "string"}}
        ),
        lambda it: it["paths"].update({"/new": {"get": {}}}),
        lambda it: schema(it, "Image")["properties"]["gps"].update(type="array"),
        lambda it: untag(it).update(description="Otherwise said"),
        lambda it: untag(it)["responses"].update({"507": untag(it)["responses"]["503"]}),
    ],
)
def test_what_breaks_nothing_is_not_named(app: FastAPI, change: Any) -> None:
    old, new = copy.deepcopy(app.openapi()), copy.deepcopy(app.openapi())
    change(new)
    assert breaking_changes(old, new) == []
