"""The commands, one module each, imported when the command runs.

The libraries that commands need take a third of a second to import. `--version`, `--help`,
completion and wrong usage need none of them. So `imageapi.cli` uses these modules as attributes of
this package, and the package imports a module at the first use of its attribute (PEP 562).
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
