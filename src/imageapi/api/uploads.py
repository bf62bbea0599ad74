"""The route that adds a picture to an album: a multipart form with a file and its fields."""

import math
from contextlib import suppress
from uuid import UUID

from fastapi import APIRouter, Request, Response

from imageapi.albums.errors import Conflict
from imageapi.albums.uploader import Uploader, UploadFields
from imageapi.api.dependencies import MayAddImages, ResourcesDep
from imageapi.api.guarded_route import GuardedRoute
from imageapi.api.header_docs import document_headers
from imageapi.api.openapi import ALBUM_ERRORS, problem_responses
from imageapi.api.parameters import parse_number
from imageapi.api.responses import image_response
from imageapi.http.errors import (
    BodyTooLarge,
    BodyTooSlow,
    InvalidParameter,
    NotMultipart,
    UnreadableRequest,
)
from imageapi.http.multipart import FILE_FIELD, MARGIN_BYTES, Fields, read_form
from imageapi.imaging.errors import DecodersBusy, InvalidPicture, NotAPicture
from imageapi.records.fields import GIVEN_TAG_SCHEMA, MAX_TAGS
from imageapi.records.ids import PUBLIC_ID
from imageapi.records.image import Image, Location
from imageapi.records.positions import MAX_LATITUDE, MAX_LONGITUDE
from imageapi.records.tags import TagError, add_tags, parse_tag
from imageapi.storage.errors import StoreUnavailable

router = APIRouter(tags=["images"], route_class=GuardedRoute)

_KNOWN_FIELDS = {"public_id", "latitude", "longitude", "accuracy", "tags"}
# Numbers are strings in a form. A schema that called them numbers would break those generated
# clients that do not convert them.
_FORM = {
    "title": "ImageUpload",
    "description": "A picture, and what its sender knows of it.",
    "type": "object",
    "additionalProperties": False,
    "required": [FILE_FIELD],
    "properties": {
        FILE_FIELD: {"type": "string", "format": "binary", "description": "The picture"},
        "public_id": {"type": "string", "format": "uuid", "description": "The image's id to be"},
        "latitude": {
            "type": "string",
            "description": "Degrees, as text: `48.85`",
        },
        "longitude": {"type": "string", "description": "Degrees"},
        "accuracy": {"type": "string", "description": "Metres"},
        "tags": {
            "type": "array",
            "items": GIVEN_TAG_SCHEMA,
            "description": f"Repeatable; {MAX_TAGS} different ones at most",
        },
    },
}
_BODY = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}}


@router.post(
    "/images",
    operation_id="uploadImage",
    status_code=201,
    response_model=Image,
    response_description="The new image",
    responses={
        200: {
            "description": "The album has the picture already: its image",
            "model": Image,
            **document_headers("ETag", "Link", "Location"),
        },
        201: document_headers("ETag", "Link", "Location"),
        **problem_responses(
            *ALBUM_ERRORS,
            *(UnreadableRequest, BodyTooLarge, BodyTooSlow, NotMultipart, NotAPicture),
            *(InvalidParameter, InvalidPicture, Conflict, StoreUnavailable),
            DecodersBusy,
        ),
    },
    openapi_extra=_BODY,
)
async def upload_image(
    uploader: MayAddImages, resources: ResourcesDep, request: Request
) -> Response:
    """Add a picture to the album.

    Its format, size, date and position are read from its content. The same picture again in the
    same album answers 200 with the image that is there.
    """
    request.state.limit_bytes = uploader.backend.limits.max_bytes + MARGIN_BYTES
    gps_ip = resources.geoip.find(request.client.host if request.client else None)
    with resources.upload_limiter.slot():
        async with uploader.start_upload() as upload:
            fields = await read_form(request, upload.write)
            image, is_new = await uploader.add(upload, _read_fields(uploader, fields, gps_ip))
    headers = {"Location": f"{request.url.path}/{image.public_id}"}
    return image_response(uploader.album_id, image, headers, 201 if is_new else 200)


def _read_fields(
    uploader: Uploader, fields: Fields, gps_ip: list[int | float] | None
) -> UploadFields:
    """Parse the fields of the form; raises InvalidParameter.

    A latitude, longitude or accuracy that is no number, or is out of range, counts as missing.
    """
    for name in fields.keys() - _KNOWN_FIELDS:
        raise InvalidParameter(f"/body/{name[:64]}", "is not a field of this form")
    latitude = _parse_number(fields, "latitude", -MAX_LATITUDE, MAX_LATITUDE)
    longitude = _parse_number(fields, "longitude", -MAX_LONGITUDE, MAX_LONGITUDE)
    accuracy = _parse_number(fields, "accuracy", 0, 1e12)
    location, gps_html = None, None
    if latitude is not None and longitude is not None:
        gps_html = [latitude, longitude]
        if accuracy is not None:
            location = Location(accuracy=accuracy, latitude=latitude, longitude=longitude)
    return UploadFields(
        _parse_public_id(fields), _parse_tags(uploader.album_id, fields), location, gps_html, gps_ip
    )


def _parse_number(fields: Fields, name: str, low: float, high: float) -> int | float | None:
    text = fields.get(name, [""])[-1]
    with suppress(ValueError, OverflowError):
        number = parse_number(text)
        if math.isfinite(number) and low <= number <= high:
            return number
    return None


def _parse_public_id(fields: Fields) -> UUID | None:
    text = fields.get("public_id", [""])[-1]
    if not text:
        return None
    if PUBLIC_ID.fullmatch(text) is None:
        raise InvalidParameter("/body/public_id", "must be a UUID")
    return UUID(text)


def _parse_tags(album_id: str, fields: Fields) -> list[str]:
    texts = filter(None, fields.get("tags", []))
    try:
        return add_tags([], [parse_tag(text, album_id) for text in texts])
    except TagError as error:
        raise InvalidParameter("/body/tags", str(error)) from error
