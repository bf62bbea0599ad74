"""Rotating, cropping and placing an image: what is kept of its picture, and where it was taken."""

from collections.abc import Mapping
from typing import Any

from imageapi.albums.errors import InvalidChange
from imageapi.records.image import Image

_CROP = ("crop_x", "crop_y", "crop_w", "crop_h")
_QUARTER = 90


def apply_changes(image: Image, changes: Mapping[str, Any]) -> None:
    """Change the image by ``rotation``, ``crop_*`` and ``gps_html``, those that are given.

    A rotation turns the crop along; a crop is in pixels of the rotated image, all 0 for the whole
    of it. Raises InvalidChange, with the bounds.
    """
    if "rotation" in changes:
        _turn_crop(image, (changes["rotation"] - image.rotation) % 360 // _QUARTER)
        image.rotation = changes["rotation"]
    for name in _CROP:
        if name in changes:
            setattr(image, name, float(changes[name]))
    if any(name in changes for name in _CROP):
        _require_crop_within_image(image)
    if "gps_html" in changes:
        image.gps_html = changes["gps_html"]
        image.gps = choose_position(image.gps_exifs, image.gps_html, image.gps_ip)


def choose_position(*positions: list[int | float] | None) -> list[int | float] | None:
    """The first of the positions that is known: camera, else browser, else address."""
    return next((position for position in positions if position is not None), None)


def compute_rotated_size(image: Image) -> tuple[int, int]:
    """Width and height of the rotated image, in pixels."""
    lies = image.rotation % (2 * _QUARTER) != 0
    return (image.height, image.width) if lies else (image.width, image.height)


def _turn_crop(image: Image, quarters: int) -> None:
    """Turn the kept part clockwise with the picture it is of, by as many quarters."""
    if not _is_cropped(image):
        return
    width, height = compute_rotated_size(image)
    for _ in range(quarters):
        image.crop_x, image.crop_y = max(height - image.crop_y - image.crop_h, 0.0), image.crop_x
        image.crop_w, image.crop_h = image.crop_h, image.crop_w
        width, height = height, width


def _is_cropped(image: Image) -> bool:
    return any(getattr(image, name) for name in _CROP)


def _require_crop_within_image(image: Image) -> None:
    if not _is_cropped(image):
        return
    width, height = compute_rotated_size(image)
    bounds = f"the crop must lie within the rotated image of {width} x {height} pixels"
    for axis, start, length, end in (
        ("w", image.crop_x, image.crop_w, width),
        ("h", image.crop_y, image.crop_h, height),
    ):
        if length <= 0:
            raise InvalidChange(f"crop_{axis}", f"must be more than 0: {bounds}")
        if start + length > end:
            raise InvalidChange(f"crop_{axis}", f"is {length:g} from {start:g} on: {bounds}")
