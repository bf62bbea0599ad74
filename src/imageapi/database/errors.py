"""Errors that callers of the database must expect.

::

    DatabaseError
    ├── DatabaseUnavailable     the database does not answer now; trying again may help
    ├── SchemaOutdated          the tables are not those of this version
    │   └── SchemaTooNew        a newer version of the program has made them
    ├── DuplicateRecord         two records of one import are of the same image
    ├── AlbumNotFound           nothing was ever put into an album of this id
    ├── ImageNotFound           the album has no such image
    └── ImageChanged            the image is not at the version that the change expects

    ChangeNotRecorded           a mistake in this program, so not a DatabaseError
"""

from collections.abc import Sequence
from uuid import UUID


class DatabaseError(Exception):
    """Base of these errors. ``str()`` is a sentence without SQL, addresses or secrets."""


class DatabaseUnavailable(DatabaseError):
    """The database does not answer, or accepts no more connections."""

    def __init__(self) -> None:
        super().__init__("The database does not answer.")


class SchemaOutdated(DatabaseError):
    """The database answers, but its schema is not that of this version."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or "The database's schema is not current; run: imageapi migrate")


class SchemaTooNew(SchemaOutdated):
    """The schema was made by a newer version of this program, so it is this program that is old."""

    def __init__(self, found: str, known: str) -> None:
        super().__init__(
            f"The database's schema is {found}, and this program knows schemas up to {known}; "
            "use the newer version of the program"
        )


class DuplicateRecord(DatabaseError):
    """Two records of one import are of the same image.

    ``first`` and ``second`` are their numbers, counted from 0 over all files of the import.
    """

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"record {second} is of the same image as record {first}")
        self.first = first
        self.second = second


class AlbumNotFound(DatabaseError):
    """Nothing was ever put into an album of this id."""

    def __init__(self, album_id: str) -> None:
        super().__init__(f"there is no album {album_id}")


class ImageNotFound(DatabaseError):
    """The album has no such image, or has it only in its trash.

    ``missing`` lists the ids that were not found, where several were requested.
    """

    def __init__(self, missing: Sequence[UUID] = ()) -> None:
        named = ", ".join(map(str, missing))
        super().__init__(f"The album has no image {named}." if named else "There is no such image.")
        self.missing = missing


class ImageChanged(DatabaseError):
    """The image's version is not one that the change expects."""

    def __init__(self) -> None:
        super().__init__("The image has changed since it was read.")


class ChangeNotRecorded(RuntimeError):
    """A change of an album wrote rows and recorded no event after them.

    A programming mistake, so it is no DatabaseError: clients get the response to any unexpected
    error. Without the event the album's version would stay, and caches would show the old images.
    """

    def __init__(self) -> None:
        super().__init__("A change of an album wrote rows and recorded no event after them.")
