"""Patterns for the id of an album and the id of an image."""

import re

ALBUM_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
PUBLIC_ID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
