"""Which part of a picture to show, and how large."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class View:
    """A picture turned upright, rotated clockwise by ``rotation`` degrees, cropped, and shrunk.

    ``crop`` is x, y, width and height in pixels of the rotated picture, None for all of it. What
    lies outside the picture is left out. ``longest_edge`` is in pixels; no picture is enlarged.
    """

    longest_edge: int
    rotation: int = 0
    crop: tuple[float, float, float, float] | None = None

    def compute_region(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Return x, y, width and height of the shown part, in pixels of the upright picture.

        ``width`` and ``height`` are the upright picture's. The part lies within it, and is at least
        one pixel wide and high.
        """
        if self.crop is None:
            return 0, 0, width, height
        is_sideways = self.rotation % 180 > 0
        rotated_width, rotated_height = (height, width) if is_sideways else (width, height)
        left, shown_width = _clamp(self.crop[0], self.crop[2], rotated_width)
        top, shown_height = _clamp(self.crop[1], self.crop[3], rotated_height)
        right = rotated_width - left - shown_width
        bottom = rotated_height - top - shown_height
        match self.rotation % 360:
            case 90:
                return top, right, shown_height, shown_width
            case 180:
                return right, bottom, shown_width, shown_height
            case 270:
                return bottom, left, shown_height, shown_width
            case _:
                return left, top, shown_width, shown_height

    def compute_scale(self, width: int, height: int) -> float:
        """Return the factor that shrinks an upright picture of this size so that the part fits."""
        return min(1.0, self.longest_edge / max(self.compute_region(width, height)[2:]))


def _clamp(start: float, length: float, end: int) -> tuple[float, float]:
    """Return start and length of the part between 0 and ``end``, with a length of at least 1."""
    clamped = min(max(start, 0), end - 1)
    return clamped, min(max(start + length - clamped, 1), end - clamped)
