"""Uploads as most people would write them: Pillow in a plain FastAPI route.

It reads the whole file into memory, decodes it in a thread of FastAPI's pool, and stores the
original and the renditions in a folder. It does not do what the service does besides: limits before
decoding, decoding in processes that may crash, syncing files to the disk, one image for the same
picture sent twice at the same time, events. With ``PICTURES_EAGER=1`` it makes all three renditions
during the upload, else only ``mini``.
"""

import hashlib
import io
import os
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, HTTPException, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse
from PIL import Image, ImageOps
from PIL.ExifTags import GPS, IFD, Base
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from benchmarks.naive import ImageOut, NaiveImage, app, get_claims, get_session, serve

_SIDEWAYS = range(5, 9)
SIZES = {"full": 1600, "large": 480, "mini": 120}
EAGER = SIZES if os.environ.get("PICTURES_EAGER") == "1" else {"mini": SIZES["mini"]}
FOLDER = Path(os.environ.get("IMAGEAPI_STORE_URL", "pictures"))


def _read_position(exif: Image.Exif) -> list[float] | None:
    gps = exif.get_ifd(IFD.GPSInfo)
    if not gps:
        return None
    return [
        float(sum(float(part) / 60**place for place, part in enumerate(gps[value])))
        * (-1 if gps[ref] in "SW" else 1)
        for value, ref in (
            (GPS.GPSLatitude, GPS.GPSLatitudeRef),
            (GPS.GPSLongitude, GPS.GPSLongitudeRef),
        )
    ]


def _store(content: bytes, public_id: uuid.UUID) -> dict[str, Any]:
    """Store the picture and its renditions; return the picture's properties."""
    image: Image.Image = Image.open(io.BytesIO(content))
    exif = image.getexif()
    width, height = image.size[:: -1 if exif.get(Base.Orientation, 1) in _SIDEWAYS else 1]
    folder = FOLDER / str(public_id)
    folder.mkdir(parents=True)
    (folder / "original").write_bytes(content)
    # The largest first, each from the one before: Pillow decodes once, no larger than needed.
    for name, edge in EAGER.items():
        image = _shrink(image, edge)
        image.save(folder / f"{name}.jpg", quality=82)
    return {
        "width": width,
        "height": height,
        "exifs": {str(tag): str(value) for tag, value in exif.items()},
        "gps_exifs": _read_position(exif),
    }


@app.post("/api/v1/albums/{album_id}/images", response_model=ImageOut, status_code=201)
async def upload(
    album_id: str,
    file: UploadFile,
    claims: Annotated[dict[str, Any], Depends(get_claims)],
    session: Annotated[AsyncSession, Depends(get_session)],
) -> Any:
    """Add a picture to the album."""
    access = claims.get("abilities", {}).get(album_id, {}).get("Access", {})
    if access.get("image_create") is not True:
        raise HTTPException(403, "Not allowed")
    content = await file.read()
    digest = hashlib.sha256(content).hexdigest()
    same = select(NaiveImage).where(
        NaiveImage.album_id == album_id, NaiveImage.infos["sha256"].as_string() == digest
    )
    if (existing := await session.scalar(same.limit(1))) is not None:
        return existing
    public_id = uuid.uuid4()
    facts = await run_in_threadpool(_store, content, public_id)
    now = datetime.now(UTC)
    image = NaiveImage(
        public_id=public_id,
        album_id=album_id,
        tags=[],
        created_at=now,
        infos={
            "bytes": len(content),
            "created_at": now.isoformat(timespec="seconds"),
            "etag": hashlib.md5(content, usedforsecurity=False).hexdigest(),
            "sha256": digest,
            "format": "jpg",
            "height": facts["height"],
            "resource_type": "image",
            "tags": [album_id],
            "type": "private",
            "width": facts["width"],
            "location": {"accuracy": 0, "latitude": 0.0, "longitude": 0.0},
        },
        gps=facts["gps_exifs"],
        gps_ip=None,
        gps_html=None,
        rotation=0,
        **dict.fromkeys(("crop_x", "crop_y", "crop_w", "crop_h"), 0.0),
        thumbnails={name: f"/renditions/{public_id}/{name}.jpg" for name in SIZES},
        **facts,
    )
    session.add(image)
    await session.commit()
    return image


@app.get("/renditions/{public_id}/{name}.jpg")
async def rendition(public_id: uuid.UUID, name: str) -> FileResponse:
    """Return a rendition; make it now if the upload did not."""
    path = FOLDER / str(public_id) / f"{name}.jpg"
    if not path.exists():
        await run_in_threadpool(_render, path, SIZES[name])
    return FileResponse(path)


def _render(path: Path, edge: int) -> None:
    _shrink(Image.open(path.with_name("original")), edge).save(path, quality=82)


def _shrink(image: Image.Image, edge: int) -> Image.Image:
    image.thumbnail((edge, edge))
    return ImageOps.exif_transpose(image).convert("RGB")


if __name__ == "__main__":
    serve()
