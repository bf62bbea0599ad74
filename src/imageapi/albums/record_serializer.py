"""From an image to the text that clients are sent."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from imageapi.albums.asset_paths import build_asset_paths
from imageapi.imaging.views import View
from imageapi.records.image import Image, Thumbnails

#: The version of the texts. Raise it with every change of what a record's text looks like: then
#: stored records are serialized again at the next start. tests/test_record_texts.py watches it.
SERIALIZER_VERSION = 2


class ImageColumns(NamedTuple):
    """The columns of an image's row that follow from the image: what it is searched by, its text.

    Latitude and longitude are in degrees, None where the position is unknown.
    """

    tags: list[str]
    record: str
    format: str
    latitude: int | float | None
    longitude: int | float | None


@dataclass(frozen=True, slots=True)
class RecordSerializer:
    """How records are rendered: in which time zone, and with renditions of which sizes.

    ``sizes`` are the longest edges of ``full``, ``large`` and ``mini``, in pixels.
    """

    time_zone: ZoneInfo
    sizes: Mapping[str, int]

    @property
    def name(self) -> str:
        """What is remembered with an album: it differs where the texts do."""
        return (
            f"{SERIALIZER_VERSION} {self.time_zone.key} {'/'.join(map(str, self.sizes.values()))}"
        )

    def format_moment(self, moment: datetime) -> str:
        """The moment as records have it: milliseconds, and the time zone's offset then."""
        return moment.astimezone(self.time_zone).isoformat(timespec="milliseconds")

    def text(self, image: Image, asset_key: bytes | None) -> str:
        """Return the record's text, and leave the image as it is.

        In the text an image with a picture here has the paths of its renditions.
        """
        if asset_key is not None:
            views = {size: get_view(image, edge) for size, edge in self.sizes.items()}
            paths = build_asset_paths(image.album_id, image.public_id, asset_key, views)
            image = image.model_copy(update={"thumbnails": Thumbnails(**paths)})
        return image.record(self.time_zone)

    def build_columns(self, image: Image, asset_key: bytes | None) -> ImageColumns:
        """Return the columns that an image's row must have to be found by what its record says."""
        latitude, longitude = image.gps or (None, None)
        record = self.text(image, asset_key)
        return ImageColumns(image.tags, record, image.infos.format, latitude, longitude)


def get_view(image: Image, longest_edge: int) -> View:
    """What of its picture an image shows: rotated, and cropped where it is."""
    crop = (image.crop_x, image.crop_y, image.crop_w, image.crop_h)
    return View(longest_edge, image.rotation, crop if any(crop) else None)
