"""Every route asks for an ability, or stands on the public list."""

import io
import re

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from PIL import Image

from factories import HEADER, claims, signed
from imageapi.api.dependencies import May, TokenVerifier
from imageapi.api.guarded_route import GuardedRoute
from imageapi.auth.claims import ABILITIES

#: An image that no album of a test has.
NOBODY = "00000000-0000-4000-8000-000000000000"
#: Who calls these needs no token.
PUBLIC = {
    "/",
    "/healthz",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/docs/parts",
    "/assets/blank.jpg",
    "/assets/{album_id}/{public_id:uuid}/{signature}/{name}",
}
#: Any valid token opens these: they say nothing but what it grants.
FOR_ANY_TOKEN = {"/api/v1/albums", "/api/v1/token"}
#: What each route asks for. A new route is added here, or it fails.
GUARDED = {
    ("GET", "/api/v1/albums/{album_id}/images/untag"): "image_list",
    ("GET", "/api/v1/albums/{album_id}/images"): "image_list",
    ("GET", "/api/v1/albums/{album_id}/images/{public_id:uuid}"): "image_list",
    ("POST", "/api/v1/albums/{album_id}/images"): "image_create",
    ("PATCH", "/api/v1/albums/{album_id}/images/{public_id:uuid}"): "image_update",
    ("DELETE", "/api/v1/albums/{album_id}/images/{public_id:uuid}"): "image_delete",
    ("POST", "/api/v1/albums/{album_id}/images/{public_id:uuid}/restore"): "image_delete",
    ("PUT", "/api/v1/albums/{album_id}/images/{public_id:uuid}/tags/{tag:text}"): "image_tag",
    ("DELETE", "/api/v1/albums/{album_id}/images/{public_id:uuid}/tags/{tag:text}"): "image_tag",
    ("POST", "/api/v1/albums/{album_id}/images/tags"): "image_tag",
    ("GET", "/api/v1/albums/{album_id}/tags"): "image_list",
    ("GET", "/api/v1/albums/{album_id}/events"): "image_list",
}
#: What a route must be sent to get beyond its guard.
BODIES = {
    ("PATCH", "/api/v1/albums/{album_id}/images/{public_id:uuid}"): {"rotation": 90},
    ("POST", "/api/v1/albums/{album_id}/images/tags"): {"public_ids": [NOBODY], "add": ["a"]},
}


ANY_TOKEN = "any token"


def plain(route: str) -> str:
    """The path without what its parameters are converted by."""
    return re.sub(r":\w+}", "}", route)


def path_of(route: str, album: str) -> str:
    filled = plain(route).format(album_id=album, public_id=NOBODY, tag="kitchen")
    assert "{" not in filled
    return filled


def abilities_of(dependant: Dependant | None) -> set[str]:
    if dependant is None:
        return set()
    found = set()
    if isinstance(dependant.call, May):
        found = {dependant.call.ability}
    elif isinstance(dependant.call, TokenVerifier):
        found = {ANY_TOKEN}
    return found.union(*(abilities_of(each) for each in dependant.dependencies))


def guards(app: FastAPI) -> dict[tuple[str, str], set[str]]:
    """Method and path of every route, to the abilities that it asks for."""
    return {
        (method, str(route.path)): abilities_of(getattr(route, "dependant", None))
        for route in iter_route_contexts(app.routes)
        for method in (route.methods or {"mounted"})
    }


def unguarded(app: FastAPI) -> set[str]:
    return {path for (_, path), asked in guards(app).items() if not asked} - PUBLIC


async def test_every_route_has_its_ability_or_is_public(app: FastAPI) -> None:
    assert unguarded(app) == set()
    asked = {route: abilities for route, abilities in guards(app).items() if abilities}
    for_any = {("GET", path): {ANY_TOKEN} for path in FOR_ANY_TOKEN}
    assert asked == {route: {ability} for route, ability in GUARDED.items()} | for_any


async def test_every_route_that_takes_a_body_asks_first(app: FastAPI) -> None:
    """But the upload's, which reads its body itself."""
    with_body = {
        (method, str(route.path)): isinstance(route.original_route, GuardedRoute)
        for route in iter_route_contexts(app.routes)
        if getattr(route, "body_field", None) is not None
        for method in route.methods or ()
    }
    assert with_body == dict.fromkeys(BODIES, True)


async def test_public_list_holds_nothing_that_is_not_there(app: FastAPI) -> None:
    assert {path for _, path in guards(app)} >= PUBLIC


def test_walk_finds_a_route_without_a_guard() -> None:
    app = FastAPI()
    router = APIRouter(prefix="/inner")

    @router.get("/open")
    async def forgotten() -> None: ...

    app.include_router(router, prefix="/outer")
    assert "/outer/inner/open" in unguarded(app)


@pytest.mark.parametrize("ability", ABILITIES)
@pytest.mark.parametrize(("route", "asked"), GUARDED.items())
async def test_only_the_ability_asked_for_opens_the_route(
    client: httpx.AsyncClient, album: str, route: tuple[str, str], asked: str, ability: str
) -> None:
    method, path = route
    token = signed(HEADER, claims(album, ability))
    answer = await client.request(
        method,
        path_of(path, album),
        headers={"Authorization": f"Bearer {token}"},
        json=BODIES.get(route),
    )
    if ability == asked:
        is_of_image = "{public_id:" in path or route in BODIES
        is_upload = route == ("POST", "/api/v1/albums/{album_id}/images")
        expected = 415 if is_upload else 404 if is_of_image else 200
        assert answer.status_code == expected
    else:
        assert answer.status_code == 403
        assert answer.json()["detail"] == f"The token does not grant {asked} on album {album}."


async def test_no_token_is_401_on_every_guarded_route(
    client: httpx.AsyncClient, album: str
) -> None:
    for route in [*GUARDED, *(("GET", path) for path in FOR_ANY_TOKEN)]:
        method, path = route
        for each in {method, "HEAD"} if method == "GET" else {method}:
            answer = await client.request(each, path_of(path, album), json=BODIES.get(route))
            assert answer.status_code == 401, route


async def test_two_authorization_headers_are_refused(client: httpx.AsyncClient, album: str) -> None:
    token = signed(HEADER, claims(album, "image_list"))
    answer = await client.get(
        f"/api/v1/albums/{album}/images/untag",
        headers=[("Authorization", f"Bearer {token}"), ("Authorization", "Bearer x")],
    )
    assert answer.status_code == 401


@pytest.mark.parametrize("album_id", ["x" * 65, "a.b", "a%20b", "é", "%00", "a%2Fb", "a;b"])
async def test_what_is_no_album_id_is_404(client: httpx.AsyncClient, album_id: str) -> None:
    token = signed(HEADER, claims("a", "image_list"))
    answer = await client.get(
        f"/api/v1/albums/{album_id}/images/untag", headers={"Authorization": f"Bearer {token}"}
    )
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"


async def test_wrong_method_says_which_are_right(client: httpx.AsyncClient, album: str) -> None:
    answer = await client.post(f"/api/v1/albums/{album}/images/untag")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")


async def test_blank_picture_is_a_neutral_jpeg(client: httpx.AsyncClient) -> None:
    answer = await client.get("/assets/blank.jpg")
    assert answer.headers["Content-Type"] == "image/jpeg"
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.format == "JPEG"
        assert picture.getcolors() == [(480 * 360, (224, 224, 224))]
        assert not picture.getexif()


async def test_docs_page_needs_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    page = (await client.get("/docs")).text
    assert "http://" not in page
    assert "https://" not in page
    assert (await client.get("/docs/parts/swagger-ui-bundle.js")).status_code == 200


async def test_root_leads_to_the_docs(client: httpx.AsyncClient) -> None:
    answer = await client.get("/", follow_redirects=True)
    assert answer.url.path == "/docs"


async def test_openapi_names_every_guarded_route(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    for method, route in GUARDED:
        path = plain(route)
        operation = document["paths"][path][method.lower()]
        assert operation["operationId"]
        assert operation["security"] == [{"Bearer": []}, {"Token": []}]
    assert "HTTPValidationError" not in document["components"]["schemas"]
    answers = document["paths"][path]["get"]["responses"]
    assert set(answers) == {"200", "401", "403", "404", "422", "429", "500", "503"}
    assert "Problem" in document["components"]["schemas"]
    assert list(document["components"]["schemas"]["Image"]["properties"])[:2] == [
        "public_id",
        "infos",
    ]


#: Old clients may send anything to it, for example a number that defeats caches.
DOCUMENTED = ("GET", "/api/v1/albums/{album_id}/images/untag")


async def test_unknown_query_parameter_is_named_on_every_route_but_the_documented_one(
    client: httpx.AsyncClient, album: str
) -> None:
    token = {"Authorization": f"Bearer {signed(HEADER, claims(album, *ABILITIES))}"}
    for route in [*GUARDED, *(("GET", path) for path in FOR_ANY_TOKEN)]:
        method, path = route
        query = {"taged": "tree"}
        for each in {method, "HEAD"} if method == "GET" else {method}:
            answer = await client.request(
                each, path_of(path, album), params=query, headers=token, json=BODIES.get(route)
            )
            assert answer.status_code == (200 if route == DOCUMENTED else 422), route
            if route != DOCUMENTED and each != "HEAD":
                assert answer.json()["errors"][0]["pointer"] == "/query/taged"
        answer = await client.request(
            method, path_of(path, album), params=query, json=BODIES.get(route)
        )
        assert answer.status_code == 401, route


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        (
            "taged=tree",
            "taged is not a parameter of this path; known are after, bbox, created_after, cre",
        ),
        ("limit=5&Tag=tree", "Tag is not a parameter of this path; known are "),
        ("=", "the query is not a parameter of this path; known are "),
        ("&".join(f"{'x' * 900}{number}=1" for number in range(9)), "x" * 64 + " is not "),
    ],
)
async def test_unknown_query_parameter_is_told_what_is_known(
    client: httpx.AsyncClient, album: str, query: str, detail: str
) -> None:
    token = signed(HEADER, claims(album, "image_list"))
    answer = await client.get(
        f"/api/v1/albums/{album}/images?{query}", headers={"Authorization": f"Bearer {token}"}
    )
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(detail)
    assert len(answer.json()["detail"]) < 300
