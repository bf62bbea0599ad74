"""What can be wrong with a picture, or with where it is kept.

::

    PictureError
    ├── NotAPicture         the content is none of the formats that are read
    ├── TooManyBytes        the content is longer than what is taken
    ├── UnfitPicture        a format that is read, but this one cannot be decoded, or is too large
    │   └── NotDecoded          a decoder died of it, or took too long: it may go well another time
    └── StoreError
        ├── StoreAway       the store does not answer, or takes no more: asking again may help
        │   └── DecodersBusy    it does, but nothing can be decoded now
        └── NotInStore      the store has nothing of this name

    UnfitStore              the operator's address of a store cannot be one
"""


class PictureError(Exception):
    """``str()`` is a sentence for whoever sent or asked for the picture; it holds no path."""


class NotAPicture(PictureError):
    """The first bytes are those of none of the formats that are read."""

    def __init__(self) -> None:
        super().__init__("The file is not a JPEG, PNG, WebP, GIF, TIFF, HEIC, HEIF or AVIF.")


class TooManyBytes(PictureError):
    """More bytes came than one upload may have."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The file is larger than {limit_bytes:,} bytes.")


class UnfitPicture(PictureError):
    """The picture cannot be decoded within the limits; ``str()`` says which of them, or why."""


class NotDecoded(UnfitPicture):
    """The decoder died, or took too long: of the picture, or of what else the machine does."""


class StoreError(PictureError):
    """Something about the store."""


class StoreAway(StoreError):
    """The store does not answer, refuses, or is full."""

    def __init__(self, sentence: str = "The store of pictures does not answer.") -> None:
        super().__init__(sentence)


class DecodersBusy(StoreAway):
    """So much is to be decoded that this would wait for too long; asking again may help."""

    def __init__(self) -> None:
        super().__init__("Too much is to be decoded now.")


class NotInStore(StoreError):
    """The store has nothing under the key."""

    def __init__(self) -> None:
        super().__init__("The store has no such picture.")


class UnfitStore(ValueError):
    """The configured store cannot serve; ``str()`` follows the setting's name in a sentence."""
