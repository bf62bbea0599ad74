"""The worker process that decodes pictures from strangers. `decode_pool` starts it and may kill it.

It ends itself when a job takes too long. It cannot write files, and its memory is limited to what
the largest allowed picture needs.
"""

import contextlib
import math
import mmap
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO, Protocol

import pi_heif  # type: ignore[import-untyped]  # it has none
import pyvips  # type: ignore[import-untyped]  # its stubs come without py.typed

from imageapi.imaging.errors import InvalidPicture, NotAPicture
from imageapi.imaging.exif import Exif, read_exif_values
from imageapi.imaging.exif_position import read_exif_position
from imageapi.imaging.formats import MAGIC_BYTES, detect_format
from imageapi.imaging.png_metadata import find_png_exif
from imageapi.imaging.tiff_page import TiffPage
from imageapi.imaging.tiff_pixels import interpret_pixels
from imageapi.imaging.views import View
from imageapi.workers.job_loop import Job, JobResult, run_job_loop

if sys.platform != "win32":
    import resource

MAX_FRAMES = 1000
JPEG_QUALITY = 82

# Measured at 100 megapixels, in bytes of address space per pixel: AVIF with full colour 22, PNG of
# 16 bits, interlaced, 21, WebP at full size 20, others less. An idle worker has 140 MB.
_ADDRESS_SPACE_BYTES = 512 * 1024**2
_ADDRESS_SPACE_BYTES_PER_PIXEL = 24
_MAX_OPEN_FILES = 64
_ROUNDING_ERROR = 1e-6

# The loaders of libvips that may be used. Only one is enabled at a time, or libvips would also load
# SVG, PDF and more. They are called by name, because libvips does not detect an animated AVIF,
# whose brand is avis.
_LOADERS = {
    "jpg": ("VipsForeignLoadJpeg", pyvips.Image.jpegload_source),
    "png": ("VipsForeignLoadPng", pyvips.Image.pngload_source),
    "webp": ("VipsForeignLoadWebp", pyvips.Image.webpload_source),
    "gif": ("VipsForeignLoadNsgif", pyvips.Image.gifload_source),
    "tiff": ("VipsForeignLoadTiff", pyvips.Image.tiffload_source),
    "avif": ("VipsForeignLoadHeif", pyvips.Image.heifload_source),
}
_SHRINK_WHILE_DECODING = {"jpg", "webp"}
#: The values of Orientation that swap width and height (EXIF 3.0 §4.6.5.1.6).
_SIDEWAYS_ORIENTATIONS = range(5, 9)


class _Picture(Protocol):
    """An opened picture whose pixels are not decoded yet. Width and height are those upright."""

    width: int
    height: int

    def read_exif(self) -> Exif:
        """Return the EXIF data. Raises ValueError if there is none."""
        ...

    def shrink(self, width: int, height: int) -> pyvips.Image:
        """Return the upright picture, shrunk to fit into the box.

        Its pixels can be read once, from top to bottom.
        """
        ...


def main() -> None:
    """Set up the libraries, and run jobs until standard input is closed."""
    pyvips.block_untrusted_set(True)
    pyvips.operation_block_set("VipsForeignLoad", True)
    pyvips.cache_set_max(0)
    pi_heif.options.DECODE_THREADS = 1
    pi_heif.options.THUMBNAILS = False
    pi_heif.options.DEPTH_IMAGES = False
    pi_heif.options.AUX_IMAGES = False
    run_job_loop(_run_job)


def _run_job(job: Job, _: bytes) -> JobResult:
    """Return the facts and the JPEG of a picture.

    The header is only ``invalid``, a sentence, where the picture cannot be decoded, only ``raw``
    where it is of a raw format, and only ``errno`` where its file cannot be opened.
    """
    try:
        file = open(job["path"], "rb")  # noqa: PTH123, SIM115  # closed below
    except OSError as error:  # no fault of the picture
        return {"errno": error.errno}, b""
    try:
        with file, _limit_resources(job["max_pixels"], job["seconds"], file):
            return _decode(file, job)
    except NotAPicture:
        return {"raw": True}, b""
    except InvalidPicture as error:
        return {"invalid": str(error)}, b""
    except Exception:  # noqa: BLE001  # messages of the libraries may have the path of the file
        return {"invalid": "The picture cannot be decoded."}, b""


@contextlib.contextmanager
def _limit_resources(max_pixels: int, seconds: float, file: BinaryIO) -> Iterator[None]:
    """Limit memory, forbid writing files, and end the process after ``seconds`` in the block.

    The limits stay after the block, only the timer is stopped. Windows has none of them.
    """
    if sys.platform == "win32":
        yield
        return
    addresses_bytes = _ADDRESS_SPACE_BYTES + max_pixels * _ADDRESS_SPACE_BYTES_PER_PIXEL
    addresses_bytes += os.fstat(file.fileno()).st_size
    _set_limit(resource.RLIMIT_AS, addresses_bytes)
    _set_limit(resource.RLIMIT_FSIZE, 0)
    _set_limit(resource.RLIMIT_CORE, 0)
    _set_limit(resource.RLIMIT_NOFILE, _MAX_OPEN_FILES)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _set_limit(which: int, soft: int) -> None:
    """Set the soft limit, at most to the hard one."""
    hard = resource.getrlimit(which)[1]
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    with contextlib.suppress(ValueError, OSError):  # macOS has no RLIMIT_AS
        resource.setrlimit(which, (soft, hard))


def _decode(file: BinaryIO, job: dict[str, Any]) -> tuple[dict[str, object], bytes]:
    """Return the header and the JPEG of a result.

    May raise InvalidPicture, or any exception of libvips or libheif.
    """
    # Do not close the map: libvips may still read from it. It is unmapped with its last reference.
    content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if detect_format(content[:MAGIC_BYTES]) != job["format"]:
        raise ValueError("another format")
    picture = _open(content, job["format"])
    pixels = picture.width * picture.height
    if pixels > job["max_pixels"]:
        raise InvalidPicture(
            f"The picture has {pixels:,} pixels; at most {job['max_pixels']:,} are taken."
        )
    jpeg = _make_jpeg(picture, View(**job["view"]))
    return (_read_facts(picture) if job["inspect"] else {}), jpeg


def _read_facts(picture: _Picture) -> dict[str, object]:
    """Return size, EXIF values and position; EXIF data that cannot be read is left out."""
    facts: dict[str, object] = {"exifs": {}, "position": None}
    facts |= {"width": picture.width, "height": picture.height}
    with contextlib.suppress(Exception):
        exif = picture.read_exif()
        facts |= {"exifs": read_exif_values(exif), "position": read_exif_position(exif)}
    return facts


def _make_jpeg(picture: _Picture, view: View) -> bytes:
    scale = view.compute_scale(picture.width, picture.height)
    # Round up: libvips keeps the proportions, so a shorter edge that is rounded down would make the
    # longer one smaller than requested.
    box = (math.ceil(edge * scale - _ROUNDING_ERROR) for edge in (picture.width, picture.height))
    image = picture.shrink(*box)
    image = _crop(image, view.compute_region(picture.width, picture.height), picture)
    image = image.colourspace("srgb")
    if image.hasalpha():
        image = image.flatten(background=[255, 255, 255])
    if view.rotation % 360:
        image = image.copy_memory().rot(f"d{view.rotation % 360}")
    jpeg: bytes = image.jpegsave_buffer(Q=JPEG_QUALITY, optimize_coding=True, keep="none")
    return jpeg


def _crop(
    image: pyvips.Image, region: tuple[float, float, float, float], picture: _Picture
) -> pyvips.Image:
    """Return the part of the image that shows the region of the picture.

    The image is the shrunk picture; the region is x, y, width and height in the picture's pixels.
    """
    x_scale, y_scale = image.width / picture.width, image.height / picture.height
    left = min(round(region[0] * x_scale), image.width - 1)
    top = min(round(region[1] * y_scale), image.height - 1)
    width = min(max(round(region[2] * x_scale), 1), image.width - left)
    height = min(max(round(region[3] * y_scale), 1), image.height - top)
    return image.crop(left, top, width, height)


def _open(content: mmap.mmap, format_: str) -> _Picture:
    return _HeifPicture(content) if format_ in {"heic", "heif"} else _VipsPicture(content, format_)


def _choose_shrink_options(image: pyvips.Image) -> dict[str, str]:
    """Return options of libvips that shrink the image, and convert its colours to sRGB.

    Colour profiles are used only for an image that has one, and for CMYK. For others they would
    take eight times as long and give the same colours.
    """
    needs_profile = image.get_typeof("icc-profile-data") or image.interpretation == "cmyk"
    profiles = {"output_profile": "srgb", "intent": "perceptual"} if needs_profile else {}
    return {"size": "down", **profiles}


class _VipsPicture:
    """A picture that libvips reads."""

    def __init__(self, content: mmap.mmap, format_: str) -> None:
        self._content = content
        self._format = format_
        pyvips.operation_block_set("VipsForeignLoad", True)
        loader, load = _LOADERS[format_]
        page = TiffPage.find(content) if format_ == "tiff" else None
        # What libvips cannot read of a TIFF it shows black, unless it is told to fail.
        options = {} if page is None else {"page": page.index, "fail_on": "error"}
        pyvips.operation_block_set(loader, False)
        image = load(self._open_source(), access="sequential", **options)
        frames = image.get_n_pages()
        if frames > MAX_FRAMES:
            raise InvalidPicture(
                f"The picture has {frames:,} frames; at most {MAX_FRAMES:,} are taken."
            )
        if page is not None:
            image = interpret_pixels(image, page)
        self._exif: bytes = image.get("exif-data") if image.get_typeof("exif-data") else b""
        if format_ == "png":
            image = self._set_orientation(image)
        self.width, self.height = image.width, image.height
        if image.get_typeof("orientation") and image.get("orientation") in _SIDEWAYS_ORIENTATIONS:
            self.width, self.height = self.height, self.width
        self._shrink_options = _choose_shrink_options(image)
        # Formats that are shrunk while they are decoded are opened again then. Release the image
        # here, because an opened WebP holds memory for all its pixels.
        self._image = None if format_ in _SHRINK_WHILE_DECODING else image

    def read_exif(self) -> Exif:
        if self._format == "png":
            return find_png_exif(self._content)
        return Exif.parse(self._content if self._format == "tiff" else self._exif)

    def _set_orientation(self, image: pyvips.Image) -> pyvips.Image:
        """Return the image with the orientation of the EXIF data, of which libvips finds less."""
        orientation = 1
        with contextlib.suppress(ValueError):
            orientation = self.read_exif().orientation
        image = image.copy()
        image.set_type(pyvips.GValue.gint_type, "orientation", orientation)
        return image

    def shrink(self, width: int, height: int) -> pyvips.Image:
        if self._image is None:
            source = self._open_source()
            return pyvips.Image.thumbnail_source(
                source, width, height=height, **self._shrink_options
            )
        # Not `thumbnail_source`: it may use a smaller picture in the file, which can show something
        # else.
        return self._image.thumbnail_image(width, height=height, **self._shrink_options)

    def _open_source(self) -> pyvips.Source:
        return pyvips.Source.new_from_memory(self._content)


class _HeifPicture:
    """A picture that libheif and libde265 read.

    They turn it upright by the boxes of the file; Orientation in EXIF need not agree with them.
    """

    def __init__(self, content: mmap.mmap) -> None:
        self._file = pi_heif.open_heif(content[:], convert_hdr_to_8bit=True)
        self.width, self.height = self._file.size

    def read_exif(self) -> Exif:
        return Exif.parse(self._file.info.get("exif") or b"")

    def shrink(self, width: int, height: int) -> pyvips.Image:
        pixels = self._file.data
        (self.width, self.height), mode = self._file.size, self._file.mode
        image = pyvips.Image.new_from_memory(pixels, self.width, self.height, len(mode), "uchar")
        image = image.copy(interpretation="b-w" if mode.startswith("L") else "srgb")
        if profile := self._file.info.get("icc_profile"):
            image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
        return image.thumbnail_image(width, height=height, **_choose_shrink_options(image))


if __name__ == "__main__":
    main()
