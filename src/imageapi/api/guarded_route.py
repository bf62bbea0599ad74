"""The class of the routes under ``/api/``: what is checked before FastAPI reads a request."""

from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from imageapi.api.dependencies import May, TokenVerifier
from imageapi.http.errors import InvalidParameter

_MAX_NAME_CHARACTERS = 64


def find_guards(route: APIRoute) -> list[May]:
    """Return the dependencies of a route that require an ability."""
    return [guard for guard in _find_token_verifiers(route) if isinstance(guard, May)]


class GuardedRoute(APIRoute):
    """A route that checks the token before the body, and knows all its query parameters.

    FastAPI reads the body before it runs dependencies. Without this class an unauthenticated
    client could make the service buffer 512 KiB for as long as it takes to send them, and would
    get an error about its JSON instead of a 401.

    FastAPI also passes over query parameters that it does not know, so a misspelled filter would
    let every image through. Here they are errors, for those whose token opens the route.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of requests: the checks, then FastAPI's own handler."""
        handle = super().get_route_handler()
        verifiers = _find_token_verifiers(self)
        known = frozenset(_iterate_query_parameters(self.dependant))
        has_body = self.body_field is not None

        async def handle_guarded(request: Request) -> Response:
            unknown = _find_unknown_parameter(request, known)
            if has_body or unknown is not None:
                for verifier in verifiers:
                    await _verify(verifier, request)
            if unknown is not None:
                raise _describe_unknown_parameter(unknown, known)
            return await handle(request)

        return handle_guarded


def _find_token_verifiers(route: APIRoute) -> list[TokenVerifier]:
    calls = [dependency.call for dependency in route.dependant.dependencies]
    return [call for call in calls if isinstance(call, TokenVerifier)]


async def _verify(verifier: TokenVerifier, request: Request) -> None:
    if isinstance(verifier, May):
        await verifier.require_ability(request, request.path_params["album_id"])
    else:
        await verifier.verify_request(request)


def _iterate_query_parameters(dependant: Dependant) -> Iterator[str]:
    """Yield the names of the query parameters of a route and of what it depends on."""
    for parameter in dependant.query_params:
        yield parameter.alias
    for dependency in dependant.dependencies:
        yield from _iterate_query_parameters(dependency)


def _find_unknown_parameter(request: Request, known: frozenset[str]) -> str | None:
    if not request.scope["query_string"]:
        return None
    return next((name for name in request.query_params if name not in known), None)


def _describe_unknown_parameter(name: str, known: frozenset[str]) -> InvalidParameter:
    others = f"known are {', '.join(sorted(known))}" if known else "there are none"
    pointer = f"/query/{name[:_MAX_NAME_CHARACTERS]}"
    return InvalidParameter(pointer, f"is not a parameter of this path; {others}")
