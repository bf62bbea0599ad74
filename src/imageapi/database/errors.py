"""What the database can answer instead of what was asked.

::

    DatabaseError
    ├── DatabaseUnavailable        nobody answers, or not now: asking again may help
    ├── SchemaOutdated      the tables are not those of this version
    ├── DuplicateRecord         two records of one import are of the same image
    ├── ImageNotFound       the album has no such image
    └── ImageChanged        the image is no longer as the one who changes it has seen it

    ChangeNotRecorded       a mistake of this program, and no answer of the database
"""

from collections.abc import Sequence
from uuid import UUID


class DatabaseError(Exception):
    """``str()`` is a sentence without SQL, addresses or secrets."""


class DatabaseUnavailable(DatabaseError):
    """The database does not answer, or takes no more connections."""

    def __init__(self) -> None:
        super().__init__("The database does not answer.")


class SchemaOutdated(DatabaseError):
    """The database is there, but not migrated to this version."""

    def __init__(self) -> None:
        super().__init__("The database's schema is not current; run: imageapi migrate")


class DuplicateRecord(DatabaseError):
    """Records ``first`` and ``second`` (counted from 0 over the whole import) are one image."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"record {second} is of the same image as record {first}")
        self.first = first
        self.second = second


class ImageNotFound(DatabaseError):
    """The album has none of this id, or only in its trash; ``missing`` names those asked for."""

    def __init__(self, missing: Sequence[UUID] = ()) -> None:
        named = ", ".join(map(str, missing))
        super().__init__(f"The album has no image {named}." if named else "There is no such image.")
        self.missing = missing


class ImageChanged(DatabaseError):
    """The image's version is not the one that the change was made for."""

    def __init__(self) -> None:
        super().__init__("The image has changed since it was read.")


class ChangeNotRecorded(RuntimeError):
    """A change of an album wrote rows and recorded no event after them.

    A programming mistake, so it is no DatabaseError: clients get the answer to any unexpected
    error. Without the event the album's version would stay, and caches would show the old images.
    """

    def __init__(self) -> None:
        super().__init__("A change of an album wrote rows and recorded no event after them.")
