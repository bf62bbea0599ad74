"""Pictures as bytes, the same for the same seed: of each format, and such as strangers send."""

import io
import random
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import pillow_heif
import pyvips
from PIL import Image, ImageCms, ImageDraw
from PIL.ExifTags import GPS, IFD, Base
from PIL.TiffImagePlugin import IFDRational

RED, GREEN, BLUE, YELLOW = (220, 30, 30), (30, 200, 30), (30, 30, 220), (220, 220, 30)
CORNERS = (RED, GREEN, BLUE, YELLOW)
"""Of a marked picture: left and right above, left and right below."""

Place = tuple[float, float]

_FOLDED = {  # what turns an upright picture into one stored with this orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def marked(width: int = 96, height: int = 64, seed: int = 0) -> Image.Image:
    """A picture whose quarters have the colours of CORNERS; the seed paints its middle."""
    image = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(image)
    middle_x, middle_y = width // 2, height // 2
    draw.rectangle((0, 0, middle_x - 1, middle_y - 1), RED)
    draw.rectangle((middle_x, 0, width, middle_y - 1), GREEN)
    draw.rectangle((0, middle_y, middle_x - 1, height), BLUE)
    draw.rectangle((middle_x, middle_y, width, height), YELLOW)
    if seed:
        dice = random.Random(seed)
        box = (width * 3 // 8, height * 3 // 8, width * 5 // 8, height * 5 // 8)
        draw.ellipse(box, tuple(dice.randbytes(3)))
    return image


def folded(image: Image.Image, orientation: int | None) -> Image.Image:
    return image.transpose(_FOLDED[orientation]) if orientation in _FOLDED else image


def corners(jpeg_: bytes) -> list[tuple[int, int, int]]:
    """Which of CORNERS lie in the corners of a picture, in the order of CORNERS."""
    with Image.open(io.BytesIO(jpeg_)) as image:
        across, down = image.width // 8, image.height // 8
        right, bottom = image.width - 1 - across, image.height - 1 - down
        pixels = [
            image.convert("RGB").getpixel(at)
            for at in ((across, down), (right, down), (across, bottom), (right, bottom))
        ]
    return [min(CORNERS, key=lambda colour: _distance(colour, pixel)) for pixel in pixels]


def _distance(one: tuple[int, ...], other: Any) -> int:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True))


def exif(orientation: int | None = None, gps: Place | None = None, **more: object) -> Image.Exif:
    """What a camera writes; `more` are tags by their EXIF names."""
    result = Image.Exif()
    result[Base.Make] = "Camera of the tests"
    if orientation is not None:
        result[Base.Orientation] = orientation
    for name, value in more.items():
        result[Base[name]] = value
    if gps is not None:
        north, east = gps
        result.get_ifd(IFD.GPSInfo).update(
            {
                GPS.GPSLatitudeRef: "N" if north >= 0 else "S",
                GPS.GPSLatitude: (IFDRational(round(abs(north) * 10**6), 10**6),),
                GPS.GPSLongitudeRef: "E" if east >= 0 else "W",
                GPS.GPSLongitude: (IFDRational(round(abs(east) * 10**6), 10**6),),
            }
        )
    return result


def written(image: Image.Image, format_: str, **options: Any) -> bytes:
    """The image as Pillow writes it."""
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def profile() -> bytes:
    """An ICC profile that does not say when it was made (ICC.1:2022 §7.2.10)."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[:24] + bytes(12) + profile[36:]


def jpeg(
    width: int = 96,
    height: int = 64,
    seed: int = 0,
    orientation: int | None = None,
    gps: Place | None = None,
    **more: object,
) -> bytes:
    """A photograph, stored as its orientation says: upright it is `width` by `height`."""
    image = folded(marked(width, height, seed), orientation)
    return written(
        image, "JPEG", quality=90, exif=exif(orientation, gps, **more), icc_profile=profile()
    )


def eight_orientations(width: int = 96, height: int = 64) -> Mapping[int, bytes]:
    """The same picture stored in each of the eight orientations (EXIF 3.0 §4.6.5.1.6)."""
    return {each: jpeg(width, height, orientation=each) for each in range(1, 9)}


def cmyk_jpeg() -> bytes:
    return written(marked().convert("CMYK"), "JPEG", quality=90)


def grey_jpeg() -> bytes:
    return written(marked().convert("L"), "JPEG", quality=90)


def png(mode: str = "RGB", **options: Any) -> bytes:
    """Of a mode of Pillow; in RGBA the right half is transparent."""
    image = marked()
    if mode == "RGBA":
        image.putalpha(Image.new("L", image.size, 255))
        image.paste((0, 0, 0, 0), (image.width // 2, 0, image.width, image.height))
    return written(image.convert(mode), "PNG", **options)


def png_16_bit() -> bytes:
    pixels = pyvips.Image.new_from_memory(marked().tobytes(), 96, 64, 3, "uchar")
    deep = (pixels * 257).cast("ushort").copy(interpretation="rgb16")
    result: bytes = deep.pngsave_buffer(bitdepth=16)
    return result


def webp(**options: Any) -> bytes:
    return written(marked(), "WEBP", quality=90, **options)


def gif(frames: int = 3) -> bytes:
    """Animated: after the first frame come others, each of one grey."""
    others = [Image.new("RGB", (96, 64), (each % 256,) * 3) for each in range(1, frames)]
    return written(marked(), "GIF", save_all=True, append_images=others, duration=50)


def animated_webp(frames: int = 3) -> bytes:
    others = [Image.new("RGB", (96, 64), (each % 256,) * 3) for each in range(1, frames)]
    return written(marked(), "WEBP", save_all=True, append_images=others, quality=90)


def tiff(orientation: int | None = None, **options: Any) -> bytes:
    """Two pages, of which the second is black."""
    image = folded(marked(), orientation)
    more = [Image.new("RGB", image.size)]
    tags = exif(orientation, options.pop("gps", None)).tobytes()
    return written(image, "TIFF", exif=tags, save_all=True, append_images=more, **options)


def heic(orientation: int | None = None, gps: Place | None = None) -> bytes:
    """HEVC in HEIF; the orientation is said by the boxes irot and imir, and by EXIF once more."""
    image = pillow_heif.from_pillow(folded(marked(), orientation))
    image.info["exif"] = exif(orientation, gps).tobytes()
    file = io.BytesIO()
    image.save(file, quality=90)
    return file.getvalue()


def avif(orientation: int | None = None, gps: Place | None = None) -> bytes:
    """AV1 in HEIF; Pillow writes the orientation as the boxes irot and imir."""
    image = folded(marked(), orientation)
    return written(image, "AVIF", quality=90, exif=exif(orientation, gps))


def each_format() -> Mapping[str, bytes]:
    """A small picture of each format that is read, taken in Lisbon where the format can say so."""
    lisbon = (38.713750, -9.139333)
    return {
        "jpg": jpeg(gps=lisbon),
        "png": png(exif=exif(gps=lisbon)),
        "webp": webp(exif=exif(gps=lisbon), icc_profile=profile()),
        "gif": gif(),
        "tiff": tiff(gps=lisbon),
        "heic": heic(gps=lisbon),
        "avif": avif(gps=lisbon),
    }


def bomb(edge: int = 20_000) -> bytes:
    """A PNG of `edge` by `edge` pixels, all zero: a few kilobytes that become hundreds of MB."""
    packed = zlib.compressobj(9)
    row = bytes(1 + (edge + 7) // 8)
    pixels = b"".join([packed.compress(row * 100) for _ in range(edge // 100)]) + packed.flush()
    header = struct.pack(">IIBBBBB", edge, edge, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def mutated(content: bytes, seed: int) -> bytes:
    """The content with a few bytes changed, cut out, doubled, or its end missing."""
    dice = random.Random(seed)
    result = bytearray(content)
    for _ in range(dice.choice((1, 1, 3, 10, 50))):
        at = dice.randrange(12, len(result)) if dice.random() < 0.6 else dice.randrange(12, 400)
        at = min(at, len(result) - 1)
        match dice.randrange(6):
            case 0:
                result[at : at + 4] = dice.choice((b"\xff" * 4, bytes(4), dice.randbytes(4)))
            case 1:
                result[at] ^= 1 << dice.randrange(8)
            case 2 if len(result) > 200:
                del result[at : at + dice.randrange(1, 20)]
            case 3:
                result[at:at] = result[at : at + 20]
            case _:
                result[at] = dice.randrange(256)
    if dice.random() < 0.2:
        del result[dice.randrange(20, len(result)) :]
    return bytes(result)
