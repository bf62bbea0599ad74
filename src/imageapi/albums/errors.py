"""Why a change of an album is refused.

::

    AlbumError
    ├── InvalidChange           its values are valid, but not for this image
    └── Conflict                the album has something that forbids the change
        ├── PublicIdTaken       another image has the id
        └── DuplicatePicture    another image of the album has the same picture
"""

from uuid import UUID


class AlbumError(Exception):
    """``str()`` is a sentence for the client."""


class InvalidChange(AlbumError):
    """A value of the change is refused; ``str()`` continues a sentence after the field's name."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field


class Conflict(AlbumError):
    """Something in the album forbids the change."""


class PublicIdTaken(Conflict):
    """The album has another image with this id, perhaps in its trash."""

    def __init__(self, public_id: UUID, *, is_in_trash: bool) -> None:
        super().__init__(
            f"The image with the id {public_id} lies in the album's trash; it can be restored."
            if is_in_trash
            else f"The album has another image with the id {public_id}."
        )


class DuplicatePicture(Conflict):
    """Another image of the album has the same picture."""

    def __init__(self, public_id: UUID) -> None:
        super().__init__(f"The album has the same picture as image {public_id}.")
