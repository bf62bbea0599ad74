"""Draw `src/imageapi/assets/blank.jpg`, the plain grey rendition of images without a picture."""

from pathlib import Path

from PIL import Image

TARGET = Path(__file__).parent.parent / "src/imageapi/assets/blank.jpg"


def draw() -> Image.Image:
    """Return a light grey picture of 480 by 360 pixels."""
    return Image.new("RGB", (480, 360), (224, 224, 224))


if __name__ == "__main__":
    draw().save(TARGET, quality=85, optimize=True)
