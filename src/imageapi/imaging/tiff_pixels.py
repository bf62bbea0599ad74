"""Brings the pixels of a TIFF, as libvips has read them, into colours that it knows."""

from typing import Any

import pyvips  # type: ignore[import-untyped]  # its stubs come without py.typed

from imageapi.imaging.tiff_page import TiffPage, YCbCr

_BITS_OF_LONG, _BITS_OF_SHORT = 32, 16
_DEEP = {"b-w": "grey16", "srgb": "rgb16"}


def interpret_pixels(image: pyvips.Image, page: TiffPage) -> pyvips.Image:
    """Return the image with no channels but those of its colour, and alpha where the file says so.

    32-bit integers become 16-bit ones. Floating-point grey is linear light from 0 to 1, as libvips
    takes floating-point colour.
    """
    colours = page.colour_channels
    if colours is not None and image.bands >= colours:
        image = _select_channels(image, page, colours)
    if page.ycbcr is not None:
        image = _convert_ycbcr(image, page.ycbcr)
    if image.format == "uint":
        shorter = image >> (_BITS_OF_LONG - _BITS_OF_SHORT)
        interpretation = _DEEP.get(image.interpretation, image.interpretation)
        image = shorter.cast("ushort").copy(interpretation=interpretation)
    elif image.format == "float" and colours == 1:
        grey = image.extract_band(0)
        image = grey.bandjoin([grey, grey]).copy(interpretation="scrgb")
    return image


def _select_channels(image: pyvips.Image, page: TiffPage, colours: int) -> pyvips.Image:
    if image.bands == colours:
        return image
    colour: pyvips.Image = image.extract_band(0, n=colours)
    alpha = None if page.alpha_channel is None else colours + page.alpha_channel
    if alpha is None or alpha >= image.bands:
        return colour
    return colour.bandjoin(image.extract_band(alpha))


def _convert_ycbcr(image: pyvips.Image, ycbcr: YCbCr) -> pyvips.Image:
    """Return the image in RGB (TIFF 6.0 §21); it has three channels of 8 bits."""
    zeros, fulls = ycbcr.reference[::2], ycbcr.reference[1::2]
    ranges = zip((255, 127, 127), zeros, fulls, strict=True)
    scales = [numbers / (full - zero) for numbers, zero, full in ranges]
    offsets = [-zero * scale for zero, scale in zip(zeros, scales, strict=True)]
    red, green, blue = 2 - 2 * ycbcr.red, ycbcr.green, 2 - 2 * ycbcr.blue
    matrix: list[list[Any]] = [
        [1, 0, red],
        [1, -blue * ycbcr.blue / green, -red * ycbcr.red / green],
        [1, blue, 0],
    ]
    converted = image.linear(scales, offsets).recomb(matrix)
    return converted.rint().cast("uchar").copy(interpretation="srgb")
