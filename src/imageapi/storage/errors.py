"""What can be wrong with the store of pictures.

::

    StoreError
    ├── StoreUnavailable    the store does not answer, refuses or is full; another try may succeed
    └── ObjectNotFound      the store has nothing under this key

    InvalidStore            the configured address is not that of a store
"""


class StoreError(Exception):
    """``str()`` is a sentence for the client; it holds no path."""


class StoreUnavailable(StoreError):
    """The store does not answer, refuses, or is full."""

    def __init__(self) -> None:
        super().__init__("The store of pictures does not answer.")


class ObjectNotFound(StoreError):
    """The store has nothing under the key."""

    def __init__(self) -> None:
        super().__init__("The store has no such picture.")


class InvalidStore(ValueError):
    """The configured store cannot be used; ``str()`` follows the name of the setting."""
