"""Names of what is shown of a picture, and the signed paths to it.

A name says all that a rendition depends on, so it never comes to mean another picture. The
signature is made with a key of the image's own: no other view can be asked for than those that
were handed out, and no path can be guessed.
"""

import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from uuid import UUID

from imageapi.imaging.views import View

#: Where there is no picture to show.
BLANK = "/assets/blank.jpg"
KEY_BYTES = 16
#: The name of an original in the store, whatever its format.
ORIGINAL = "original"

_SIGNATURE_BYTES = 16
_VIEW = re.compile(
    r"(?:full|large|mini)-(\d{1,5})(?:-r(90|180|270))?"
    r"(?:-c([0-9.e+-]+)_([0-9.e+-]+)_([0-9.e+-]+)_([0-9.e+-]+))?\.jpg"
)


def build_rendition_name(size: str, view: View) -> str:
    """The file name of a view in one of the sizes, such as ``mini-120-r90.jpg``."""
    rotated = f"-r{view.rotation}" if view.rotation else ""
    cropped = "" if view.crop is None else "-c" + "_".join(map(repr, view.crop))
    return f"{size}-{view.longest_edge}{rotated}{cropped}.jpg"


def parse_view(name: str) -> View | None:
    """The view that a rendition's name says; None for what is no rendition's name."""
    parts = _VIEW.fullmatch(name)
    if parts is None:
        return None
    longest_edge, rotation, x, y, width, height = parts.groups()
    crop = None if x is None else (float(x), float(y), float(width), float(height))
    return View(int(longest_edge), int(rotation or 0), crop)


def build_store_key(album_id: str, picture: UUID, name: str) -> str:
    """Where the picture's original, or a rendition of it, lies in the store."""
    return f"{album_id}/{picture}/{name}"


def build_original_name(format_: str) -> str:
    """The file name of an original in its path."""
    return f"{ORIGINAL}.{format_}"


def sign(asset_key: bytes, name: str) -> str:
    """What lets its bearer see the picture of this name: 22 characters of base64url."""
    digest = hmac.digest(asset_key, name.encode(), sha256)[:_SIGNATURE_BYTES]
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def is_signed(asset_key: bytes, name: str, given: str) -> bool:
    """Whether ``given`` is the name's signature, in a time that does not tell how nearly."""
    return hmac.compare_digest(sign(asset_key, name).encode(), given.encode())


def build_asset_path(album_id: str, public_id: str, asset_key: bytes, name: str) -> str:
    """The path under which the service shows the picture of this name."""
    return f"/assets/{album_id}/{public_id}/{sign(asset_key, name)}/{name}"


def build_asset_paths(
    album_id: str, public_id: str, asset_key: bytes, views: Mapping[str, View]
) -> dict[str, str]:
    """The paths of views by the name of their size."""
    return {
        size: build_asset_path(album_id, public_id, asset_key, build_rendition_name(size, view))
        for size, view in views.items()
    }
