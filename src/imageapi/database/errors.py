"""What the database can answer instead of what was asked.

::

    DatabaseError
    ├── DatabaseAway        nobody answers, or not now: asking again may help
    ├── SchemaOutdated      the tables are not those of this version
    ├── RecordTwice         two records of one import are of the same image
    └── ImageNotFound       the album has no such image
"""


class DatabaseError(Exception):
    """``str()`` is a sentence without SQL, addresses or secrets."""


class DatabaseAway(DatabaseError):
    """The database does not answer, or takes no more connections."""

    def __init__(self) -> None:
        super().__init__("The database does not answer.")


class SchemaOutdated(DatabaseError):
    """The database is there, but not migrated to this version."""

    def __init__(self) -> None:
        super().__init__("The database's schema is not current; run: imageapi migrate")


class RecordTwice(DatabaseError):
    """Records ``first`` and ``second`` (counted from 0 over the whole import) are one image."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"record {second} is of the same image as record {first}")
        self.first = first
        self.second = second


class ImageNotFound(DatabaseError):
    """The album has no image of this id."""

    def __init__(self) -> None:
        super().__init__("There is no such image.")
