"""The OpenAPI document: what it says of every answer is what the service answers."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import pytest
from fastapi import FastAPI

from conftest import empty_database
from exchanges import Answer, Seen, all_exchanges, masked, text_of
from factories import PROJECT
from imageapi.api.header_docs import HEADERS_OF_ALL, HEADERS_OF_MOST

EXAMPLES = PROJECT / "src/imageapi/api/examples.json"
#: Nothing in them can be made to fail unexpectedly: they ask nobody else.
ASKS_NOBODY = {"getHealth", "getMetrics", "getToken", "getBlankPicture"}
#: How the answer is sent, not what it is.
OF_SENDING = {"content-length", "content-type", "content-encoding"}

Document = dict[str, Any]


@pytest.fixture(scope="session")
def document(app: FastAPI) -> Document:
    return app.openapi()


@pytest.fixture(scope="session")  # once in a process: its first uploads must be new
async def seen(
    document: Document,
    server: str,
    tmp_path_factory: pytest.TempPathFactory,
    pytestconfig: pytest.Config,
) -> Seen:
    folder = tmp_path_factory.mktemp("exchanges")
    async with empty_database(server, "without_a_schema") as dsn:
        seen = await all_exchanges(document, server, dsn, folder)
    if pytestconfig.getoption("--write-examples"):
        EXAMPLES.write_text(text_of(seen.examples()))
    return seen


def resolved(document: Document, value: Document) -> Document:
    """The component that a reference names, or the value itself."""
    if "$ref" not in value:
        return value
    _, *path = value["$ref"].split("/")
    for part in path:
        document = document[part]
    return document


def operations(document: Document) -> list[Document]:
    return [each for methods in document["paths"].values() for each in methods.values()]


def documented(document: Document) -> dict[Answer, Document]:
    """What the document says of each answer, one for each kind of problem."""
    said = {}
    for operation in operations(document):
        for status, reference in operation["responses"].items():
            answer = resolved(document, reference)
            problems = answer.get("content", {}).get("application/problem+json", {})
            for kind in problems.get("examples", {"": None}):
                said[operation["operationId"], int(status), kind] = answer
    return said


def schema_of(document: Document, answer: httpx.Response, said: Document) -> Document | None:
    media_type = answer.headers.get("Content-Type", "").partition(";")[0]
    if not answer.content and "content" not in said:
        return None
    schema: Document = said["content"][media_type]["schema"]
    return {**schema, "components": document["components"]}


def test_every_documented_answer_was_seen_and_no_other(document: Document, seen: Seen) -> None:
    never_seen = {(name, 500, "unexpected") for name in ASKS_NOBODY}
    assert set(seen.answers) == set(documented(document)) - never_seen


def test_every_answer_is_of_its_schema(document: Document, seen: Seen) -> None:
    checked = 0
    for key, answer in seen.answers.items():
        schema = schema_of(document, answer, documented(document)[key])
        if schema is not None and "json" in answer.headers["Content-Type"]:
            jsonschema_rs.Draft202012Validator(schema, validate_formats=True).validate(
                answer.json()
            )
            checked += 1
    assert checked > 100


def test_every_response_has_the_documented_headers(document: Document, seen: Seen) -> None:
    for key, answer in seen.answers.items():
        headers = documented(document)[key].get("headers", {})
        of_all = {name.lower() for name in HEADERS_OF_ALL}
        of_some = {name.lower() for name in (*headers, *HEADERS_OF_MOST)}
        assert set(answer.headers) - OF_SENDING - of_all <= of_some, key
        left_out = (
            {"pragma", "expires"} if "immutable" in answer.headers["cache-control"] else set()
        )
        assert of_all - set(answer.headers) == left_out, key


def test_headers_that_are_documented_are_seen_somewhere(document: Document, seen: Seen) -> None:
    for name in (*HEADERS_OF_ALL, *HEADERS_OF_MOST):
        assert f"| `{name}` |" in document["info"]["description"]
    borne = {name for answer in seen.answers.values() for name in answer.headers}
    assert {name.lower() for name in document["components"]["headers"]} <= borne


def test_examples_are_what_was_seen(document: Document, seen: Seen) -> None:
    kept = json.loads(EXAMPLES.read_text())
    assert masked(kept) == masked(seen.examples())
    for (name, status, kind), said in documented(document).items():
        if kind:
            content = said["content"]["application/problem+json"]
            assert content["examples"][kind]["value"] == kept["problems"][kind]
        elif "application/json" in said.get("content", {}):
            shown = said["content"]["application/json"]["example"]
            assert shown == kept["answers"][name][str(status)]


def test_problems_of_a_kind_are_alike(seen: Seen) -> None:
    problems = seen.examples()["problems"]
    for (_, status, kind), answer in seen.answers.items():
        if kind:
            body = answer.json()
            assert body["status"] == status
            of_a_kind = problems[kind]
            assert body.keys() == of_a_kind.keys()
            assert {
                **of_a_kind,
                **{name: body[name] for name in ("detail", "errors") if name in body},
            } == body


def test_operation_ids_are_those_that_clients_were_generated_from(document: Document) -> None:
    assert {operation["operationId"] for operation in operations(document)} == {
        *("listUntaggedImages", "listImages", "uploadImage", "getImage", "updateImage"),
        *("deleteImage", "restoreImage", "tagImage", "untagImage", "tagImages", "listTags"),
        *("listEvents", "listAlbums", "getToken", "getPicture", "getBlankPicture"),
        *("getHealth", "getReadiness", "getMetrics"),
    }


def values(document: Any, path: str = "#") -> Iterator[tuple[str, Document]]:
    """Every object of the document but what stands in examples, with its address."""
    if isinstance(document, dict):
        yield path, document
        for key, inner in document.items():
            if key not in ("example", "examples"):
                yield from values(inner, f"{path}/{key}")
    elif isinstance(document, list):
        for number, inner in enumerate(document):
            yield from values(inner, f"{path}/{number}")


def test_schemas_are_named_once_and_need_no_guessing(document: Document) -> None:
    for path, schema in values(document):
        assert not {"oneOf", "allOf"} & schema.keys(), path
        if "anyOf" in schema:  # a reference cannot say by its type that it may be null
            named, null = schema["anyOf"]
            assert (set(named), null) == ({"$ref"}, {"type": "null"}), path
        if "properties" in schema:
            assert path.rpartition("/")[0].endswith(("/schemas", "/properties")), path
            for name, each in schema["properties"].items():
                assert "$ref" in each or each.get("description"), f"{path}/{name}"
        if schema.get("type") == "object" and not path.endswith("/exifs"):
            assert "properties" in schema or isinstance(schema.get("additionalProperties"), dict), (
                path
            )
    schemas = [
        json.dumps(each["properties"])
        for _, each in values(document["components"]["schemas"])
        if "properties" in each
    ]
    assert len(schemas) == len(set(schemas))


def test_what_may_be_null_is_not_what_may_be_left_out(document: Document) -> None:
    schemas = document["components"]["schemas"]
    image = schemas["Image"]
    assert set(image["required"]) == set(image["properties"])
    nullable = {
        f"{name}.{field}"
        for name, schema in schemas.items()
        for field, each in schema["properties"].items()
        if "null" in each.get("type", ())
    }
    assert nullable == {
        *(f"Image.{name}" for name in ("gps", "gps_ip", "gps_exifs", "gps_html")),
        *("ImageChanges.gps_html", "ImageState.gps_html"),
        *("AlbumEvent.user_id", "TokenAbilities.user_id"),
    }
    optional = {
        f"{name}.{field}"
        for name, schema in schemas.items()
        for field in schema["properties"].keys() - set(schema.get("required", ()))
        if name not in ("ImageChanges", "ImageState", "TagChanges", "ImageUpload")
    }
    assert optional == {"Infos.location", "Problem.errors"}


def test_only_what_is_sent_is_closed_to_further_keys(document: Document) -> None:
    closed = {
        name
        for name, schema in document["components"]["schemas"].items()
        if schema.get("additionalProperties") is False
    }
    assert closed == {"ImageChanges", "ImageUpload", "TagChanges"}


def test_token_may_be_sent_in_either_scheme(document: Document) -> None:
    schemes = document["components"]["securitySchemes"]
    assert (schemes["Token"]["in"], schemes["Token"]["name"]) == ("header", "Authorization")
    assert (schemes["Bearer"]["type"], schemes["Bearer"]["scheme"]) == ("http", "bearer")
    for operation in operations(document):
        needs_one = operation["tags"][0] not in ("pictures", "operation")
        assert operation["security"] == ([{"Bearer": []}, {"Token": []}] if needs_one else [])


def test_everything_is_described(document: Document) -> None:
    tags = {tag["name"]: tag["description"] for tag in document["tags"]}
    assert all(tags.values())
    for operation in operations(document):
        assert set(operation["tags"]) <= tags.keys()
        assert operation["summary"]
        assert operation["description"]
        for parameter in operation.get("parameters", []):
            assert parameter["description"], (operation["operationId"], parameter["name"])
    for name, schema in document["components"]["schemas"].items():
        assert schema["description"], name
    assert document["info"]["license"]["identifier"] == "MIT"
