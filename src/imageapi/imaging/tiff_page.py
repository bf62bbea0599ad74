"""Finds the picture among the pages of a TIFF, and says what the numbers of its pixels mean.

libvips reads the pixels. It takes the first page, also where that is a thumbnail, and passes on
numbers that it does not know as they are.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Self

from imageapi.imaging.errors import InvalidPicture, NotAPicture
from imageapi.imaging.tiff_directory import Content, Directory, TiffBlock

# Tags of TIFF 6.0, of its technical notes, and of DNG.
_NEW_SUBFILE_TYPE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION = 254, 256, 257, 258, 259
_PHOTOMETRIC, _CHANNELS = 262, 277
_STRIPS, _TILES = (273, 279), (324, 325)  # where they are, and how long
_SUB_IFDS, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 330, 338, 339
_YCBCR_COEFFICIENTS, _YCBCR_SUBSAMPLING, _REFERENCE_BLACK_WHITE = 529, 530, 532
_DNG_VERSION = 50706

_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_COLOUR_FILTER_ARRAY, _LINEAR_RAW = 32803, 34892
_RAW_COMPRESSIONS = {32767, 32769, 34713, 65000, 65535}  # Sony, Epson, Nikon, Kodak, Pentax
#: What some raw formats have behind the header: Canon's CR2, Phase One's IIQ.
_RAW_MARKS = (b"CR\2", b"IIII", b"MMMM")
_HEADER_BYTES = 8
_YCBCR, _SIGNED = 6, 2
_JPEG = 7
#: How many numbers of a pixel are its colour.
_COLOUR_CHANNELS = {0: 1, 1: 1, 2: 3, 5: 4, 6: 3, 8: 3}
_ALPHA = (1, 2)  # associated and unassociated; libvips divides by the first
_MAX_SUB_IFDS = 64

_INCOMPLETE = "The picture is not whole: pixels are missing in the file."
_NOT_READ = "The picture's pixels are of a kind of TIFF that is not read: {}."


@dataclass(frozen=True, slots=True)
class YCbCr:
    """How luminance and two differences of colour become red, green and blue (TIFF 6.0 §21)."""

    red: float
    green: float
    blue: float
    #: Black and white of luminance, zero and full of each difference.
    reference: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TiffPage:
    """The page of a TIFF that is the picture.

    ``index`` counts from 0. ``colour_channels`` is None where libvips decides, as for a palette.
    ``alpha_channel`` is the place of the alpha channel behind those of colour, None if there is
    none. ``ycbcr`` is None for pixels that are no YCbCr, or that libvips converts.
    """

    index: int
    colour_channels: int | None
    alpha_channel: int | None
    ycbcr: YCbCr | None

    @classmethod
    def find(cls, content: Content) -> Self:
        """Return the first page that is neither a reduced version of another nor a mask.

        Raises NotAPicture for the raw formats of cameras, which are TIFF inside, and InvalidPicture
        for pixels that nobody here can read.
        """
        block = TiffBlock.parse(content)
        pages = list(block.iterate_directories())
        is_marked = content[_HEADER_BYTES : _HEADER_BYTES + 4].startswith(_RAW_MARKS)
        if is_marked or any(map(_is_raw, _iterate_all(block, pages))):
            raise NotAPicture
        index = next((at for at, page in enumerate(pages) if _is_picture(page)), 0)
        if not pages:
            raise InvalidPicture("The picture has no page.")
        _require_stored(pages[index], len(content))
        return cls._of_directory(index, pages[index])

    @classmethod
    def _of_directory(cls, index: int, page: Directory) -> Self:
        if _SIGNED in page.read_numbers(_SAMPLE_FORMAT):
            raise InvalidPicture(_NOT_READ.format("signed numbers"))
        photometric = _get(page, _PHOTOMETRIC, -1)
        extra = page.read_numbers(_EXTRA_SAMPLES)
        alpha_channel = next((at for at, kind in enumerate(extra) if kind in _ALPHA), None)
        return cls(
            index,
            _COLOUR_CHANNELS.get(photometric),
            alpha_channel,
            _read_ycbcr(page) if photometric == _YCBCR else None,
        )


def _require_stored(page: Directory, file_bytes: int) -> None:
    """Raise InvalidPicture where pixels are missing in the file: libvips shows some of them black.

    A writer of one strip may leave out how long it is.
    """
    tags = _TILES if _TILES[0] in page else _STRIPS
    offsets, lengths = (page.read_numbers(tag) for tag in tags)
    lengths = lengths if tags[1] in page else (1,) * len(offsets)
    parts = list(zip(offsets, lengths, strict=False))
    is_stored = all(offset > 0 < length <= file_bytes - offset for offset, length in parts)
    if not parts or len(offsets) != len(lengths) or not is_stored:
        raise InvalidPicture(_INCOMPLETE)
    if _get(page, _COMPRESSION, 1) == 1 and tags[1] in page and sum(lengths) < _count_bytes(page):
        raise InvalidPicture(_INCOMPLETE)


def _count_bytes(page: Directory) -> int:
    """Return how many bytes the pixels take that are not compressed, without any padding."""
    width, height = _get(page, _WIDTH, 0), _get(page, _HEIGHT, 0)
    bits = page.read_numbers(_BITS, (1,)) or (1,)
    channels = _get(page, _CHANNELS, 1)
    bits_per_pixel = int(sum(bits)) if len(bits) == channels else int(bits[0]) * channels
    return height * (width * bits_per_pixel // 8)


def _read_ycbcr(page: Directory) -> YCbCr | None:
    """Return how to convert the page's pixels; None for JPEG, which its library converts."""
    if _get(page, _COMPRESSION, 1) == _JPEG:
        return None
    if page.read_numbers(_YCBCR_SUBSAMPLING, (2, 2)) != (1, 1):
        raise InvalidPicture(_NOT_READ.format("YCbCr with fewer colours than pixels"))
    coefficients = page.read_numbers(_YCBCR_COEFFICIENTS)
    reference = page.read_numbers(_REFERENCE_BLACK_WHITE)
    if len(coefficients) != 3 or not 0 < coefficients[1] < 1:  # noqa: PLR2004
        coefficients = (0.299, 0.587, 0.114)
    if len(reference) != 6 or any(reference[at] == reference[at + 1] for at in (0, 2, 4)):  # noqa: PLR2004
        reference = (0, 255, 128, 255, 128, 255)
    return YCbCr(*coefficients, reference)


def _get(page: Directory, tag: int, default: int) -> int:
    numbers = page.read_numbers(tag, (default,))
    return int(numbers[0]) if numbers else default


def _is_picture(page: Directory) -> bool:
    return not _get(page, _NEW_SUBFILE_TYPE, 0) & (_REDUCED | _MASK)


def _is_raw(page: Directory) -> bool:
    return (
        _DNG_VERSION in page
        or _get(page, _PHOTOMETRIC, -1) in (_COLOUR_FILTER_ARRAY, _LINEAR_RAW)
        or _get(page, _COMPRESSION, 1) in _RAW_COMPRESSIONS
    )


def _iterate_all(block: TiffBlock, pages: list[Directory]) -> Iterator[Directory]:
    """Yield the pages, and the directories that they refer to as further versions."""
    yield from pages
    for page in pages:
        for offset in islice(page.read_numbers(_SUB_IFDS), _MAX_SUB_IFDS):
            with suppress(ValueError):
                yield block.read_directory(int(offset))
