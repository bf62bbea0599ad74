"""Why a picture is not taken or not shown.

::

    PictureError            the picture is refused, and would be refused again
    ├── NotAPicture         it is in none of the formats that are read
    ├── PictureTooLarge     it has more bytes than an upload may have
    └── InvalidPicture      its format is read, but it cannot be decoded within the limits
        └── DecodeFailed    its decoder died, or took too long

    DecodersBusy            no fault of the picture: nothing can be decoded now

When a decoder dies or takes too long, the picture may be hostile, or the machine may be short of
memory or time. Which of them it was cannot be known, so the caller decides. An upload is refused
(422): a client that is answered 503 sends its picture again, and a picture that kills its decoder
must not be sent for ever. A rendition is answered with DecodersBusy (503): its picture was decoded
once, when it was uploaded, so it is probably not the cause.
"""


class PictureError(Exception):
    """``str()`` is a sentence for the client; it holds no path."""


class NotAPicture(PictureError):
    """The first bytes belong to none of the formats that are read."""

    def __init__(self) -> None:
        super().__init__("The file is not a JPEG, PNG, WebP, GIF, TIFF, HEIC, HEIF or AVIF.")


class PictureTooLarge(PictureError):
    """The file has more bytes than one upload may have."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The file is larger than {limit_bytes:,} bytes.")


class InvalidPicture(PictureError):
    """The picture cannot be decoded within the limits; ``str()`` says which limit, or why."""


class DecodeFailed(InvalidPicture):
    """The decoder died or took too long, because of the picture or of the machine."""


class DecodersBusy(Exception):
    """No decoder was free in time, or none could be started. Another try may succeed."""

    def __init__(self) -> None:
        super().__init__("Too much is to be decoded now.")
