"""What we override in uvicorn, FastAPI and Starlette exists, and their versions are bounded.

None of it is promised by their documentation. When one of these tests fails after an upgrade, read
what changed there before you change the table or the bound.
"""

import ast
import asyncio
import importlib
import inspect
import pkgutil
import re
import textwrap
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest
import uvicorn
from packaging.requirements import Requirement
from packaging.version import Version
from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

import imageapi
from factories import PROJECT
from imageapi.http import connection_limits, server_protocol
from imageapi.http.connection_limits import LimitedHttpProtocol
from imageapi.http.server_protocol import DocumentedProtocol

#: Each of our classes that derives from one of theirs, and what it overrides there.
OVERRIDES = {
    "Cors": {"preflight_response"},
    "_RefusedPreflight": {"__call__"},
    "_TextConvertor": {"regex"},
    "TokenVerifier": set(),
    "May": set(),
    "MayChange": set(),
    "MayAdd": set(),
    "GuardedRoute": {"get_route_handler"},
    "LimitedHttpProtocol": {
        "_start_asgi_task",
        "connection_lost",
        "connection_made",
        "data_received",
        "on_header",
        "on_headers_complete",
        "on_message_begin",
        "on_message_complete",
        "on_response_complete",
        "on_url",
        "pause_writing",
        "resume_writing",
        "shutdown",
        "timeout_keep_alive_handler",
    },
    "DocumentedProtocol": {"on_message_complete"},
    "ImageAPI": {"__call__", "build_middleware_stack", "openapi"},
}
#: Which part of its version may not rise: an undocumented part may change with the next minor
#: version before 1.0, and with the next major version after it.
BOUNDS = {"uvicorn": 1, "fastapi": 1, "starlette": 0}


def their_bases(ours: type) -> list[type]:
    return [each for each in ours.__mro__[1:] if each.__module__.split(".")[0] in BOUNDS]


def our_classes() -> Iterator[type]:
    """Every class of the package that derives from one of theirs."""
    for module in pkgutil.walk_packages(imageapi.__path__, "imageapi."):
        if module.name.endswith("__main__") or ".migrations" in module.name:
            continue
        for each in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(each) and each.__module__ == module.name and their_bases(each):
                yield each


def test_what_we_override_exists_and_nothing_else_is_overridden_by_chance() -> None:
    overridden = {
        ours.__name__: {
            name
            for name in vars(ours)
            if (name == "__call__" or not name.startswith("__"))
            and any(name in vars(base) for base in their_bases(ours))
        }
        for ours in our_classes()
    }
    assert overridden == OVERRIDES


def attributes(source: str, *owners: str) -> set[str]:
    """The attributes that the source reads or sets of variables and attributes of these names."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)]
    return {
        node.attr
        for node in nodes
        if getattr(node.value, "id", None) in owners or getattr(node.value, "attr", None) in owners
    }


async def test_parts_of_the_protocol_that_we_use_exist() -> None:
    config = uvicorn.Config(Response(), ws="none", log_config=None)
    config.load()
    theirs = HttpToolsProtocol(config, ServerState(), {}, asyncio.get_running_loop())
    theirs.on_message_begin()
    used, ours = set[str](), set[str]()
    for each in (LimitedHttpProtocol, DocumentedProtocol):
        used |= attributes(inspect.getsource(each), "self")
        ours |= attributes(textwrap.dedent(inspect.getsource(each.__init__)), "self")
        ours |= vars(each).keys()
    # Our constructors set attributes of our own, and replace `app`, which is theirs.
    missing = {name for name in used - (ours - {"app"}) if not hasattr(theirs, name)}
    assert missing == set()
    assert {"app", "pipeline", "cycle", "parser", "_unset_keepalive_if_required"} <= used


def test_parts_of_a_request_under_way_that_we_use_exist() -> None:
    parameters = inspect.signature(RequestResponseCycle).parameters
    arguments: dict[str, Any] = dict.fromkeys(parameters)
    cycle = RequestResponseCycle(**arguments)
    used = set[str]()
    for module in (connection_limits, server_protocol):
        used |= attributes(inspect.getsource(module), "cycle", "running", "_running")
    assert {name for name in used if not hasattr(cycle, name)} == set()
    assert {"response_complete", "keep_alive", "disconnected", "message_event", "flow"} <= used


def bounds(requirements: list[str]) -> dict[str, Requirement]:
    return {each.name: each for each in map(Requirement, requirements) if not each.marker}


def require_bounds(requirements: list[str]) -> None:
    """Fail unless each has its upper bound, and the installed version lies within it."""
    found = bounds(requirements)
    for name, position in BOUNDS.items():
        installed = Version(version(name))
        release = list(installed.release[: position + 1])
        release[position] += 1
        end = Version(".".join(map(str, release)))
        specifier = found[name].specifier
        assert installed in specifier
        assert [Version(each.version) for each in specifier if each.operator == "<"] == [end], name


def test_versions_that_we_lean_on_are_bounded() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    require_bounds(project["dependencies"])


@pytest.mark.parametrize("group", ["run", "dev"])
def test_pinned_versions_lie_within_the_bounds(group: str) -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    found = bounds(project["dependencies"])
    locked = (PROJECT / f"requirements/{group}.txt").read_text()
    for name in BOUNDS:
        pinned = re.search(rf"^{name}==(\S+)", locked, re.MULTILINE)
        assert pinned is not None
        assert pinned[1] in found[name].specifier
        assert pinned[1] == version(name)
