"""The process that decodes what strangers send: `decoding` starts it, asks it, and may kill it.

It ends by itself when a job takes longer than it may. It writes no files, and has only as much
memory as the largest picture needs.
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
from PIL import Image
from PIL.Image import Exif

from imageapi.imaging.errors import InvalidPicture
from imageapi.imaging.exif import read_exif_position, read_exif_values
from imageapi.imaging.formats import MAGIC_BYTES, detect_format
from imageapi.imaging.views import View
from imageapi.workers.job_loop import Job, JobResult, run_job_loop

if sys.platform != "win32":
    import resource

MAX_FRAMES = 1000
JPEG_QUALITY = 82

# Measured at 100 megapixels: AVIF with full colour takes 22 bytes of addresses per pixel, PNG of
# 16 bits, interlaced, 21, WebP at full size 20, others less. An idle child has 140 MB.
_ADDRESSES_BYTES = 512 * 1024**2
_ADDRESSES_BYTES_PER_PIXEL = 24
_MAX_OPEN_FILES = 64
_ROUNDING = 1e-6

# The loaders of libvips that may be used, one at a time: it would find SVG, PDF and more itself.
# Called by name: it would not find the one for an animated AVIF, whose brand is avis.
_LOADERS = {
    "jpg": ("VipsForeignLoadJpeg", pyvips.Image.jpegload_source),
    "png": ("VipsForeignLoadPng", pyvips.Image.pngload_source),
    "webp": ("VipsForeignLoadWebp", pyvips.Image.webpload_source),
    "gif": ("VipsForeignLoadNsgif", pyvips.Image.gifload_source),
    "tiff": ("VipsForeignLoadTiff", pyvips.Image.tiffload_source),
    "avif": ("VipsForeignLoadHeif", pyvips.Image.heifload_source),
}
_SHRINK_WHILE_DECODING = {"jpg", "webp"}
_TURNS_SIDEWAYS = range(5, 9)  # EXIF 3.0 §4.6.5.1.6: the Orientations that swap width and height


class _Picture(Protocol):
    """An opened picture, of which no pixel is decoded yet."""

    width: int
    height: int

    def exif(self) -> Exif: ...

    def shrunk(self, width: int, height: int) -> pyvips.Image:
        """The upright picture in sRGB, shrunk into the box, to be read once from top to bottom."""
        ...


def main() -> None:
    """Do the jobs that come in."""
    pyvips.block_untrusted_set(True)
    pyvips.operation_block_set("VipsForeignLoad", True)
    pyvips.cache_set_max(0)
    pi_heif.options.DECODE_THREADS = 1
    pi_heif.options.THUMBNAILS = False
    pi_heif.options.DEPTH_IMAGES = False
    pi_heif.options.AUX_IMAGES = False
    run_job_loop(_do_job)


def _do_job(job: Job, _: bytes) -> JobResult:
    try:
        file = open(job["path"], "rb")  # noqa: PTH123, SIM115  # closed below
    except OSError as error:  # which is no fault of the picture
        return {"errno": error.errno}, b""
    try:
        with file, _limit_resources(job["max_pixels"], job["seconds"], file):
            return _decode(file, job)
    except InvalidPicture as unfit:
        return {"unfit": str(unfit)}, b""
    except Exception:  # noqa: BLE001  # whatever the libraries say of it may name the file
        return {"unfit": "The picture cannot be decoded."}, b""


@contextlib.contextmanager
def _limit_resources(max_pixels: int, seconds: float, file: BinaryIO) -> Iterator[None]:
    """Within, memory is bounded, no file grows, and the process ends when the time is over."""
    if sys.platform == "win32":
        yield
        return
    addresses_bytes = _ADDRESSES_BYTES + max_pixels * _ADDRESSES_BYTES_PER_PIXEL
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
    hard = resource.getrlimit(which)[1]
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    with contextlib.suppress(ValueError, OSError):  # macOS knows no RLIMIT_AS
        resource.setrlimit(which, (soft, hard))


def _decode(file: BinaryIO, job: dict[str, Any]) -> tuple[dict[str, object], bytes]:
    """Raise whatever comes to mind to the libraries, and InvalidPicture."""
    # Never closed by hand: libvips may still look into it, and whoever forgets it last unmaps it.
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
    facts: dict[str, object] = {"exifs": {}, "position": None}
    facts |= {"width": picture.width, "height": picture.height}
    with contextlib.suppress(Exception):
        exif = picture.exif()
        facts |= {"exifs": read_exif_values(exif), "position": read_exif_position(exif)}
    return facts


def _make_jpeg(picture: _Picture, view: View) -> bytes:
    scale = view.scale(picture.width, picture.height)
    # Rounded up, or the shorter edge would press the longer one below what was asked for.
    box = (math.ceil(edge * scale - _ROUNDING) for edge in (picture.width, picture.height))
    image = picture.shrunk(*box)
    image = _crop(image, view.region(picture.width, picture.height), picture)
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
    """The region of the picture in the image, which is the picture shrunk."""
    across, down = image.width / picture.width, image.height / picture.height
    left = min(round(region[0] * across), image.width - 1)
    top = min(round(region[1] * down), image.height - 1)
    width = min(max(round(region[2] * across), 1), image.width - left)
    height = min(max(round(region[3] * down), 1), image.height - top)
    return image.crop(left, top, width, height)


def _open(content: mmap.mmap, format_: str) -> _Picture:
    return _HeifPicture(content) if format_ in {"heic", "heif"} else _VipsPicture(content, format_)


def _choose_shrink_options(image: pyvips.Image) -> dict[str, str]:
    """How the image is shrunk: through profiles only where one says what its numbers mean.

    Without, libvips takes eight times as long for the same colours.
    """
    profiled = image.get_typeof("icc-profile-data") or image.interpretation == "cmyk"
    profiles = {"output_profile": "srgb", "intent": "perceptual"} if profiled else {}
    return {"size": "down", **profiles}


class _VipsPicture:
    """A picture that libvips reads."""

    def __init__(self, content: mmap.mmap, format_: str) -> None:
        self._content = content
        self._format = format_
        pyvips.operation_block_set("VipsForeignLoad", True)
        loader, load = _LOADERS[format_]
        pyvips.operation_block_set(loader, False)
        image = load(self._source(), access="sequential")
        frames = image.get_n_pages()
        if frames > MAX_FRAMES:
            raise InvalidPicture(
                f"The picture has {frames:,} frames; at most {MAX_FRAMES:,} are taken."
            )
        self.width, self.height = image.width, image.height
        if image.get_typeof("orientation") and image.get("orientation") in _TURNS_SIDEWAYS:
            self.width, self.height = self.height, self.width
        self._exif: bytes = image.get("exif-data") if image.get_typeof("exif-data") else b""
        self._shrinking = _choose_shrink_options(image)
        # Let go of where the decoder shrinks: an opened WebP holds memory for all its pixels.
        self._image = None if format_ in _SHRINK_WHILE_DECODING else image

    def exif(self) -> Exif:
        if self._format == "tiff":
            self._content.seek(0)
            tiff = Image.open(self._content, formats=["TIFF"])  # type: ignore[arg-type]  # it reads
            return tiff.getexif()
        exif = Exif()
        exif.load(self._exif)
        return exif

    def shrunk(self, width: int, height: int) -> pyvips.Image:
        if self._image is None:
            source = self._source()
            return pyvips.Image.thumbnail_source(source, width, height=height, **self._shrinking)
        # Not by the source: a smaller picture that lies in the file may show something else.
        return self._image.thumbnail_image(width, height=height, **self._shrinking)

    def _source(self) -> pyvips.Source:
        return pyvips.Source.new_from_memory(self._content)


class _HeifPicture:
    """A picture that libheif and libde265 read, upright as its boxes say and EXIF need not."""

    def __init__(self, content: mmap.mmap) -> None:
        self._file = pi_heif.open_heif(content[:], convert_hdr_to_8bit=True)
        self.width, self.height = self._file.size

    def exif(self) -> Exif:
        exif = Exif()
        exif.load(self._file.info["exif"])
        return exif

    def shrunk(self, width: int, height: int) -> pyvips.Image:
        pixels = self._file.data
        (self.width, self.height), mode = self._file.size, self._file.mode
        image = pyvips.Image.new_from_memory(pixels, self.width, self.height, len(mode), "uchar")
        image = image.copy(interpretation="b-w" if mode.startswith("L") else "srgb")
        if profile := self._file.info.get("icc_profile"):
            image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
        return image.thumbnail_image(width, height=height, **_choose_shrink_options(image))


if __name__ == "__main__":
    main()
