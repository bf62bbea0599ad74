"""Why a change of an album is not made.

::

    AlbumError
    ├── InvalidChange         can be read, but does not fit the image
    └── Conflict            stands against what is there
        ├── PublicIdTaken       another image has the id
        └── DuplicatePicture        another image of the album shows the same picture
"""

from uuid import UUID


class AlbumError(Exception):
    """``str()`` is the public sentence."""


class InvalidChange(AlbumError):
    """``field`` of the change does not fit; ``str()`` follows its name in a sentence."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field


class Conflict(AlbumError):
    """Something that is there already stands against the change."""


class PublicIdTaken(Conflict):
    """The album has another image of this id, perhaps in its trash."""

    def __init__(self, public_id: UUID) -> None:
        super().__init__(f"The album has another image with the id {public_id}.")


class DuplicatePicture(Conflict):
    """The album has the same picture as another image."""

    def __init__(self, public_id: UUID) -> None:
        super().__init__(f"The album has the same picture as image {public_id}.")
