"""Where pictures are kept, and what looks at them: opened once, used by whoever needs them."""

from dataclasses import dataclass

from imageapi.albums.record_serializer import RecordSerializer
from imageapi.database.engine import Database
from imageapi.imaging.decode_pool import DecodePool
from imageapi.storage.store import Store


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """How large a picture may be: bytes of its file, and pixels."""

    max_bytes: int
    max_pixels: int


@dataclass(frozen=True, slots=True)
class Backend:
    """What is needed to take pictures in, and to show them."""

    database: Database
    store: Store
    decoders: DecodePool
    serializer: RecordSerializer
    limits: PictureLimits
