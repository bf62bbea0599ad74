"""What the commands do: a module each, imported when its command runs.

The libraries that commands need take a third of a second to import. `--version`, `--help`,
completion and wrong use need none of them, so `imageapi.cli` uses these modules as attributes of
this package, which imports a module when it is first asked for (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING

__all__ = [
    "export",
    "failures",
    "import_photographs",
    "import_records",
    "migrate",
    "openapi",
    "purge",
    "serve",
    "token",
]

if TYPE_CHECKING:  # what the type checker and the import linter see
    from types import ModuleType

    from imageapi.commands import (
        export,
        failures,
        import_photographs,
        import_records,
        migrate,
        openapi,
        purge,
        serve,
        token,
    )


def __getattr__(name: str) -> "ModuleType":
    """Import the module of this name; raises AttributeError where there is none."""
    if name not in __all__:
        raise AttributeError(name)
    return import_module(f"{__name__}.{name}")
