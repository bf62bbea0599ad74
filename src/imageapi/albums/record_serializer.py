"""Writes the text of an image's record, and the columns of its row that follow from the image."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from imageapi.albums.asset_paths import build_asset_paths
from imageapi.imaging.views import View
from imageapi.records.image import Image, Thumbnails

#: The version of the texts. Raise it with every change of what a record's text looks like: then
#: stored records are serialized again at the next start. tests/test_record_texts.py fails if not.
SERIALIZER_VERSION = 2


class ImageColumns(NamedTuple):
    """The columns of an image's row that follow from the image.

    They are its record's text and what images are searched by. Latitude and longitude are in
    degrees, None where the position is unknown.
    """

    tags: list[str]
    record: str
    format: str
    latitude: int | float | None
    longitude: int | float | None


@dataclass(frozen=True, slots=True)
class RecordSerializer:
    """Writes records with times in the time zone, and paths of renditions in the sizes.

    ``sizes`` are the longest edges of ``full``, ``large`` and ``mini``, in pixels.
    """

    time_zone: ZoneInfo
    sizes: Mapping[str, int]

    @property
    def name(self) -> str:
        """A name for the texts it writes, stored with each album.

        It differs where the texts would, so a stored name that differs means outdated records.
        """
        return (
            f"{SERIALIZER_VERSION} {self.time_zone.key} {'/'.join(map(str, self.sizes.values()))}"
        )

    def format_moment(self, moment: datetime) -> str:
        """Return the moment as records have it: milliseconds, and the time zone's offset then."""
        return moment.astimezone(self.time_zone).isoformat(timespec="milliseconds")

    def serialize(self, image: Image, asset_key: bytes | None) -> str:
        """Return the record's text; the image is not changed.

        An image with an ``asset_key`` has its picture in our store. In the text its thumbnails are
        the paths of its renditions.
        """
        if asset_key is not None:
            views = {size: get_view(image, edge) for size, edge in self.sizes.items()}
            paths = build_asset_paths(image.album_id, image.public_id, asset_key, views)
            image = image.model_copy(update={"thumbnails": Thumbnails(**paths)})
        return image.record(self.time_zone)

    def build_columns(self, image: Image, asset_key: bytes | None) -> ImageColumns:
        """Return the columns of the image's row, so that searches agree with its record."""
        latitude, longitude = image.gps or (None, None)
        record = self.serialize(image, asset_key)
        return ImageColumns(image.tags, record, image.infos.format, latitude, longitude)


def get_view(image: Image, longest_edge: int) -> View:
    """Return the view of an image's picture in this size: rotated, and cropped if the image is."""
    crop = (image.crop_x, image.crop_y, image.crop_w, image.crop_h)
    return View(longest_edge, image.rotation, crop if any(crop) else None)
