"""What can be wrong with a picture, or with where it is kept.

::

    PictureError
    ├── NotAPicture         the content is none of the formats that are read
    ├── PictureTooLarge        the content is longer than what is taken
    ├── InvalidPicture        a format that is read, but this one cannot be decoded, or is too large
    │   └── DecodeFailed        a decoder died of it, or took too long; another try may succeed
    └── StoreError
        ├── StoreUnavailable    the store does not answer, or is full; another try may succeed
        │   └── DecodersBusy    it does, but nothing can be decoded now
        └── ObjectNotFound      the store has nothing of this name

    InvalidStore              the operator's address of a store cannot be one
"""


class PictureError(Exception):
    """``str()`` is a sentence for whoever sent or asked for the picture; it holds no path."""


class NotAPicture(PictureError):
    """The first bytes are those of none of the formats that are read."""

    def __init__(self) -> None:
        super().__init__("The file is not a JPEG, PNG, WebP, GIF, TIFF, HEIC, HEIF or AVIF.")


class PictureTooLarge(PictureError):
    """More bytes came than one upload may have."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The file is larger than {limit_bytes:,} bytes.")


class InvalidPicture(PictureError):
    """The picture cannot be decoded within the limits; ``str()`` says which of them, or why."""


class DecodeFailed(InvalidPicture):
    """The decoder died, or took too long: of the picture, or of what else the machine does."""


class StoreError(PictureError):
    """Something about the store."""


class StoreUnavailable(StoreError):
    """The store does not answer, refuses, or is full."""

    def __init__(self, sentence: str = "The store of pictures does not answer.") -> None:
        super().__init__(sentence)


class DecodersBusy(StoreUnavailable):
    """So much is to be decoded that this would wait for too long; asking again may help."""

    def __init__(self) -> None:
        super().__init__("Too much is to be decoded now.")


class ObjectNotFound(StoreError):
    """The store has nothing under the key."""

    def __init__(self) -> None:
        super().__init__("The store has no such picture.")


class InvalidStore(ValueError):
    """The configured store cannot serve; ``str()`` follows the setting's name in a sentence."""
