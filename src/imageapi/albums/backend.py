"""The database, the store and the decoders, opened once and used by all that handle pictures."""

from dataclasses import dataclass

from imageapi.albums.record_serializer import RecordSerializer
from imageapi.database.engine import Database
from imageapi.imaging.decode_pool import DecodePool
from imageapi.storage.store import Store


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """The largest picture that is accepted: bytes of its file, and pixels."""

    max_bytes: int
    max_pixels: int


@dataclass(frozen=True, slots=True)
class Backend:
    """Everything that uploads and renditions need."""

    database: Database
    store: Store
    decoders: DecodePool
    serializer: RecordSerializer
    limits: PictureLimits
