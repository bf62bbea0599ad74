"""Changes an image's rotation, crop and position."""

from collections.abc import Mapping
from typing import Any

from imageapi.albums.errors import InvalidChange
from imageapi.records.image import Image

_CROP = ("crop_x", "crop_y", "crop_w", "crop_h")
_QUARTER = 90


def apply_changes(image: Image, changes: Mapping[str, Any]) -> None:
    """Change the image's ``rotation``, ``crop_*`` and ``gps_html``, those that are in ``changes``.

    A rotation also rotates the crop. A crop is in pixels of the rotated image; all four 0 mean the
    whole image. Raises InvalidChange, with the bounds, where the crop is not within the image.
    """
    if "rotation" in changes:
        _rotate_crop(image, (changes["rotation"] - image.rotation) % 360 // _QUARTER)
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
    """Return the first position that is not None: camera, else browser, else address."""
    return next((position for position in positions if position is not None), None)


def compute_rotated_size(image: Image) -> tuple[int, int]:
    """Return width and height of the rotated image, in pixels."""
    is_sideways = image.rotation % (2 * _QUARTER) != 0
    return (image.height, image.width) if is_sideways else (image.width, image.height)


def _rotate_crop(image: Image, quarters: int) -> None:
    """Rotate the crop clockwise with the picture, by so many quarters of a turn."""
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
