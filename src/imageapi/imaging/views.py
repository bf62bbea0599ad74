"""What to show of a picture, and how large."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class View:
    """A picture turned upright, then clockwise by `rotation` degrees, then cropped, then shrunk.

    `crop` is x, y, width and height in pixels of the turned picture, None for all of it; what
    lies beyond the picture is left out. `longest_edge` is in pixels; nothing is enlarged.
    """

    longest_edge: int
    rotation: int = 0
    crop: tuple[float, float, float, float] | None = None

    def region(self, width: int, height: int) -> tuple[float, float, float, float]:
        """What is shown: x, y, width and height in the upright picture of this size.

        Within the picture, and at least a pixel wide and high.
        """
        if self.crop is None:
            return 0, 0, width, height
        sideways = self.rotation % 180 > 0
        turned_width, turned_height = (height, width) if sideways else (width, height)
        left, wide = _clamp(self.crop[0], self.crop[2], turned_width)
        top, high = _clamp(self.crop[1], self.crop[3], turned_height)
        match self.rotation % 360:
            case 90:
                return top, turned_width - left - wide, high, wide
            case 180:
                return turned_width - left - wide, turned_height - top - high, wide, high
            case 270:
                return turned_height - top - high, left, high, wide
            case _:
                return left, top, wide, high

    def scale(self, width: int, height: int) -> float:
        """By what the upright picture of this size is shrunk: the shown part then fits."""
        return min(1.0, self.longest_edge / max(self.region(width, height)[2:]))


def _clamp(start: float, length: float, end: int) -> tuple[float, float]:
    """Start and length of what lies between 0 and the end, and at least 1 of it."""
    first = min(max(start, 0), end - 1)
    return first, min(max(start + length - first, 1), end - first)
