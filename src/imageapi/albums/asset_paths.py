"""Names of renditions and originals, and the signed paths under which clients get them.

The name of a rendition has everything that its content depends on, so what it shows never changes.
The signature is made with a key of the image. So clients can request only the views that the
service has offered, and paths cannot be guessed.
"""

import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from uuid import UUID

from imageapi.imaging.views import View

#: The path of the picture that stands in where there is none to show.
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
    """Return the file name of a view in one of the sizes, for example ``mini-120-r90.jpg``."""
    rotation = f"-r{view.rotation}" if view.rotation else ""
    crop = "" if view.crop is None else "-c" + "_".join(map(repr, view.crop))
    return f"{size}-{view.longest_edge}{rotation}{crop}.jpg"


def parse_view(name: str) -> View | None:
    """Return the view that a rendition's name describes, None if it is no such name."""
    match = _VIEW.fullmatch(name)
    if match is None:
        return None
    longest_edge, rotation, x, y, width, height = match.groups()
    crop = None if x is None else (float(x), float(y), float(width), float(height))
    return View(int(longest_edge), int(rotation or 0), crop)


def build_store_key(album_id: str, picture: UUID, name: str) -> str:
    """Return the store's key for the picture's original or one of its renditions."""
    return f"{album_id}/{picture}/{name}"


def build_original_name(format_: str) -> str:
    """Return the file name that an original has in its path."""
    return f"{ORIGINAL}.{format_}"


def sign(asset_key: bytes, name: str) -> str:
    """Return the signature of the name, in 22 characters of base64url.

    Who knows it can see the picture: the path is all that a client needs.
    """
    digest = hmac.digest(asset_key, name.encode(), sha256)[:_SIGNATURE_BYTES]
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def is_signed(asset_key: bytes, name: str, signature: str) -> bool:
    """Return whether the signature is the name's.

    The comparison takes the same time for every wrong signature, so it cannot be guessed in parts.
    """
    return hmac.compare_digest(sign(asset_key, name).encode(), signature.encode())


def build_asset_path(album_id: str, public_id: str, asset_key: bytes, name: str) -> str:
    """Return the signed path of the picture with this name."""
    return f"/assets/{album_id}/{public_id}/{sign(asset_key, name)}/{name}"


def build_asset_paths(
    album_id: str, public_id: str, asset_key: bytes, views: Mapping[str, View]
) -> dict[str, str]:
    """Return the signed paths of views, by the name of their size."""
    return {
        size: build_asset_path(album_id, public_id, asset_key, build_rendition_name(size, view))
        for size, view in views.items()
    }
