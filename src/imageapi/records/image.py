"""The schema of an image (docs/contract.md, section 2).

The OpenAPI document, the stored record and the validation of imported records all come from these
models. The order of the fields is the order of the keys in the JSON that clients get.
"""

from collections.abc import Iterable
from datetime import tzinfo
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from imageapi.records.fields import (
    MAX_TAGS,
    AlbumId,
    ByteCount,
    Digest,
    FormatName,
    Latitude,
    Longitude,
    Measure,
    Moment,
    PixelCount,
    Pixels,
    Position,
    PublicId,
    RenditionPath,
    Rotation,
    Tag,
    UtcSecond,
    forbid_null,
    invalid_value,
)


def _refuse_null(value: object) -> object:
    if value is None:
        raise invalid_value("must be an object, or left out")
    return value


class Location(BaseModel):
    """Where the browser said it was; further keys are kept."""

    model_config = ConfigDict(extra="allow")

    accuracy: Measure = Field(description="Metres")
    latitude: Latitude = Field(description="Degrees")
    longitude: Longitude = Field(description="Degrees")


class Infos(BaseModel):
    """Facts of the original as stored. Further keys of an imported record are kept, in order."""

    model_config = ConfigDict(extra="allow")

    bytes: ByteCount = Field(description="Size of the original")
    created_at: UtcSecond = Field(description="When the picture came, UTC, whole seconds")
    etag: Digest = Field(description="MD5 of the content, in hexadecimal")
    format: FormatName = Field(
        description="`jpg`, `png`, `webp`, `gif`, `tiff`, `heic`, `heif`, `avif`"
    )
    height: PixelCount = Field(description="Pixels, as displayed upright")
    resource_type: Literal["image"] = Field(description="Always `image`")
    tags: list[Tag] = Field(
        min_length=1,
        max_length=1 + MAX_TAGS,
        description="The album's id, then the tags that people gave, in the order given",
    )
    type: Literal["private"] = Field(description="Always `private`")
    width: PixelCount = Field(description="Pixels, as displayed upright")
    location: Annotated[Location | None, BeforeValidator(_refuse_null)] = Field(
        default=None,
        exclude_if=lambda location: location is None,
        json_schema_extra=forbid_null,
    )


class Thumbnails(BaseModel):
    """Paths of the renditions, rotation and crop applied."""

    model_config = ConfigDict(extra="forbid")

    full: RenditionPath = Field(description="To look at closely")
    large: RenditionPath = Field(description="To tag by")
    mini: RenditionPath = Field(description="For a list")


class Image(BaseModel):
    """An image of an album."""

    # Without "constants" Pydantic would write NaN and infinity as null, which is another value.
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")

    public_id: PublicId = Field(description="Its id")
    infos: Infos
    exifs: dict[str, Any] = Field(description="What the camera wrote, tag name to value")
    gps: Position | None = Field(description="The best known position: camera, browser, address")
    gps_ip: Position | None = Field(description="Position of the client's address")
    gps_exifs: Position | None = Field(description="Position from the camera")
    gps_html: Position | None = Field(description="Position from the browser")
    created_at: Moment = Field(description="When the record was made")
    width: PixelCount = Field(description="Pixels, as displayed upright")
    height: PixelCount = Field(description="Pixels, as displayed upright")
    rotation: Rotation = Field(description="Degrees clockwise")
    crop_x: Pixels = Field(description="Left edge of the kept part, in pixels when rotated")
    crop_y: Pixels = Field(description="Its upper edge")
    crop_w: Pixels = Field(description="Its width; all four 0: the whole image")
    crop_h: Pixels = Field(description="Its height")
    album_id: AlbumId = Field(description="The album that it belongs to")
    thumbnails: Thumbnails

    @model_validator(mode="after")
    def _check_tags(self) -> Self:
        if self.infos.tags[0] != self.album_id:
            raise invalid_value("infos.tags: must begin with the album's id")
        if len(set(self.infos.tags)) < len(self.infos.tags):
            raise invalid_value("infos.tags: must not hold a tag twice")
        return self

    def record(self, time_zone: tzinfo) -> str:
        """Return the exact text that clients get, ``created_at`` with the time zone's offset."""
        created_at = self.created_at.astimezone(time_zone)
        return self.model_copy(update={"created_at": created_at}).model_dump_json()

    @property
    def tags(self) -> list[str]:
        """The tags that people gave: all but the first, which is the album's id."""
        return self.infos.tags[1:]

    def set_tags(self, tags: Iterable[str]) -> None:
        """Replace the tags that people gave. The album's id stays the first."""
        self.infos.tags = [self.album_id, *tags]
