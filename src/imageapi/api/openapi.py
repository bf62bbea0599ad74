"""The OpenAPI document: what the routes and models say, in a form that generators read well.

FastAPI derives a document from the routes. `complete_document` changes that into the published
form: each schema and each error response stands once, by name; null is a type; each response lists
its headers; and there are examples, which are responses that the tests received
(``examples.json``; docs/sdk.md says how).
"""

import json
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from typing import Any

from fastapi.exceptions import RequestValidationError

from imageapi.api.header_docs import COMMON_HEADERS_TEXT, build_headers, document_headers
from imageapi.auth.errors import AbilityMissing, IssuerUnavailable, TokenRefused
from imageapi.database.errors import DatabaseUnavailable, SchemaOutdated
from imageapi.database.rate_limits import RateExceeded
from imageapi.http.errors import (
    BodyTooLarge,
    BodyTooSlow,
    InvalidParameter,
    NothingHere,
    Overloaded,
    UnreadableRequest,
)
from imageapi.http.problem_types import (
    MEDIA_TYPE,
    PROBLEM_TYPES,
    Problem,
    ProblemType,
)

Json = dict[str, Any]

#: The key in a response under which `problem_responses` stores the names of problem types.
PROBLEMS_KEY = "x-problems"

#: Errors of every route: raised by `admission`, or by the route itself.
ANY_TIME_ERRORS = (DatabaseUnavailable, SchemaOutdated, RateExceeded, Overloaded, Exception)
#: Errors of every route that verifies a token.
TOKEN_ERRORS = (TokenRefused, IssuerUnavailable)
#: Errors of every route under an album.
ALBUM_ERRORS = (*TOKEN_ERRORS, AbilityMissing, NothingHere, InvalidParameter)
#: Further errors of a route that reads JSON.
JSON_BODY_ERRORS = (UnreadableRequest, BodyTooLarge, BodyTooSlow, RequestValidationError)

_INTRODUCTION = """\
Ask which images of an album still have no tag, oldest first, and work that queue off. Around it:
photographs in, seen as renditions, tagged one by one or many at once, rotated, cropped, deleted
and restored.

Every call needs a token that grants its **ability** on the album: `image_list`, `image_create`,
`image_tag`, `image_update` or `image_delete`. Lists come whole, or in pages where `limit` is
given: the `Link` header leads to the next one. An image's `ETag` is its version; sent back as
`If-Match`, it keeps two people from overwriting each other. Every error is
`application/problem+json` (RFC 9457).

"""

DESCRIPTION = _INTRODUCTION + COMMON_HEADERS_TEXT

TAGS = [
    {"name": "queue", "description": "The images that nobody has tagged yet"},
    {"name": "tags", "description": "Who has them, giving and taking them away"},
    {"name": "images", "description": "In, out, rotated, cropped, deleted and restored"},
    {"name": "events", "description": "What happened to an album"},
    {"name": "albums", "description": "What a token leads to"},
    {"name": "pictures", "description": "Renditions and originals, by paths that need no token"},
    {"name": "operation", "description": "For whoever runs the service"},
]

#: The ways to send a token; a client uses one of them.
SECURITY = {
    "Bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The same JWT under the usual scheme",
    },
    "Token": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": 'The value is `Token token="…"`, with a JWT between the quotes',
    },
}

_TYPES_BY_NAME = {kind.name: kind for kind in PROBLEM_TYPES.values()}


def problem_responses(
    *errors: type[Exception], always_admitted: bool = False
) -> dict[int | str, dict[str, Any]]:
    """Return the ``responses`` of a route that can raise these errors.

    They hold only the names of problem types, which `complete_document` replaces. Every route can
    fail unexpectedly. Every route but those that are ``always_admitted`` can also refuse a request
    because the service is overloaded, or because the database is away.
    """
    responses: dict[int | str, dict[str, Any]] = {}
    any_time_errors = (Exception,) if always_admitted else ANY_TIME_ERRORS
    for problem in dict.fromkeys(PROBLEM_TYPES[error] for error in (*errors, *any_time_errors)):
        response = responses.setdefault(problem.status.value, {PROBLEMS_KEY: []})
        response[PROBLEMS_KEY].append(problem.name)
    return responses


def complete_document(document: Json) -> Json:
    """Change the document that FastAPI derived into the published form, and return it."""
    examples = json.loads(files("imageapi.api").joinpath("examples.json").read_text())
    components = document["components"]
    schemas = components["schemas"]
    schemas |= _build_problem_schemas()
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    components |= {
        "headers": build_headers(),
        "responses": {},
        "securitySchemes": SECURITY,
    }
    body_schemas = set()
    for path, operation in iterate_operations(document):
        operation.get("parameters", []).sort(
            key=lambda parameter: _get_parameter_order(path, parameter)
        )
        _complete_operation(operation, components["responses"], examples)
        if "requestBody" in operation:
            body_schemas.add(_name_body_schema(operation["requestBody"], schemas))
    for name in schemas.keys() - body_schemas:
        if schemas[name].get("additionalProperties") is False:
            del schemas[name]["additionalProperties"]  # later versions may add fields to a response
    components["schemas"] = dict(sorted(schemas.items()))
    _walk(document, _simplify_schema)
    return document


def iterate_operations(document: Json) -> Iterator[tuple[str, Json]]:
    """Yield each operation with its path."""
    for path, methods in document["paths"].items():
        for operation in methods.values():
            yield path, operation


def _get_parameter_order(path: str, parameter: Json) -> tuple[int, int]:
    """Return a sort key: parameters of the path in their order there, then query, then headers."""
    kinds = ["path", "query", "header"]
    position = path.find(f"{{{parameter['name']}}}")
    return kinds.index(parameter["in"]), position


def _build_problem_schemas() -> Json:
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs"), Problem.__name__: schema}


def _complete_operation(operation: Json, responses: Json, examples: Json) -> None:
    name = operation["operationId"]
    operation["security"] = [{scheme: []} for scheme in SECURITY] if "security" in operation else []
    for parameter in operation.get("parameters", []):
        _complete_parameter(parameter)
    if name in examples["requests"]:
        (media,) = operation["requestBody"]["content"].values()
        media["example"] = examples["requests"][name]
    documented = operation["responses"]
    for status in list(documented):
        response = documented[status]
        if PROBLEMS_KEY in response:
            kinds = [_TYPES_BY_NAME[kind] for kind in response[PROBLEMS_KEY]]
            component = "Or".join(_to_pascal_case(kind.name) for kind in kinds)
            responses[component] = _build_problem_response(kinds, examples["problems"])
            documented[status] = {"$ref": f"#/components/responses/{component}"}
        elif "HTTPValidationError" in json.dumps(response):
            del documented[status]  # FastAPI's guess; the route documents no such response
        else:
            example = examples["answers"].get(name, {}).get(status)
            if example is not None:
                response["content"]["application/json"]["example"] = example
    operation["responses"] = dict(sorted(documented.items()))


def _name_body_schema(body: Json, schemas: Json) -> str:
    """Return the name of a body's schema; move a schema from the route to the components."""
    (media,) = body["content"].values()
    schema = media["schema"]
    if "title" in schema:
        name: str = schema.pop("title")
        schemas[name] = schema
        media["schema"] = {"$ref": f"#/components/schemas/{name}"}
    return str(media["schema"]["$ref"]).rpartition("/")[2]


def _complete_parameter(parameter: Json) -> None:
    """Bring a parameter into the published form, in place.

    An optional parameter can be missing, but not null. Its example is beside its schema.
    """
    schema = parameter["schema"]
    kinds = [kind for kind in schema.pop("anyOf", []) if kind != {"type": "null"}]
    for key, value in (kinds[0] if kinds else {}).items():
        schema.setdefault(key, value)
    schema.pop("default", None)
    schema.pop("description", None)
    if isinstance(examples := schema.pop("examples", None), list):
        parameter["example"] = examples[0]
    if parameter["in"] == "header":
        parameter["name"] = parameter["name"].title()


def _build_problem_response(kinds: list[ProblemType], examples: Mapping[str, Json]) -> Json:
    names = dict.fromkeys(name for kind in kinds for name, _ in kind.headers)
    schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    return {
        "description": ", or: ".join(f"{kind.title} (`{kind.name}`)" for kind in kinds),
        **(document_headers(*names) if names else {}),
        "content": {
            MEDIA_TYPE: {
                "schema": schema,
                "examples": {
                    kind.name: {"value": examples[kind.name]}
                    for kind in kinds
                    if kind.name in examples
                },
            }
        },
    }


def _to_pascal_case(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("-"))


def _walk(value: object, change: Callable[[Json], None]) -> None:
    """Call ``change`` with every object of the document except examples, innermost first."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in ("example", "examples"):
                _walk(inner, change)
        change(value)
    elif isinstance(value, list):
        for inner in value:
            _walk(inner, change)


def _simplify_schema(schema: Json) -> None:
    """Simplify a schema in place for generators.

    ``null`` becomes one of the types, whole numbers lose their decimal point, and titles that only
    repeat a name are removed.
    """
    kinds = schema.get("anyOf")
    if isinstance(kinds, list) and {"type": "null"} in kinds:
        others = [kind for kind in kinds if kind != {"type": "null"}]
        assert len(others) == 1
        if "type" in others[0]:  # a reference has none, so it stays in ``anyOf`` beside null
            del schema["anyOf"]
            schema |= {**others[0], "type": [others[0]["type"], "null"]}
    if isinstance(schema.get("title"), str) and "version" not in schema:
        del schema["title"]
    if "default" in schema and "description" in schema:
        del schema["default"]  # a missing field means no change, or no value; never the default
    for name in ("minimum", "maximum"):
        if isinstance(bound := schema.get(name), float) and bound.is_integer():
            schema[name] = int(bound)
