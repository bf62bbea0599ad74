"""Decides which tags people may give to an image.

A tag is trimmed, in Unicode's form NFC, of 1 to 100 characters, and not the album's id: that stands
before the tags in every record. An image has at most ``MAX_TAGS``, each once.

::

    TagError
    ├── InvalidTag      the text cannot be a tag of the album
    └── TooManyTags     the image would have more than MAX_TAGS
"""

from collections.abc import Iterable

from pydantic import TypeAdapter, ValidationError

from imageapi.records.fields import MAX_TAGS, GivenTag
from imageapi.records.messages import describe_error

_GIVEN_TAG: TypeAdapter[str] = TypeAdapter(GivenTag)


class TagError(ValueError):
    """``str()`` continues a sentence that begins with the name of a field."""


class InvalidTag(TagError):
    """The text cannot be a tag of the album."""


class TooManyTags(TagError):
    """The image would have more than MAX_TAGS tags."""

    def __init__(self) -> None:
        super().__init__(f"must not be more than {MAX_TAGS}")


def parse_tag(text: str, album_id: str) -> str:
    """Return the tag that a person typed, trimmed and in NFC. Raises InvalidTag."""
    try:
        tag = _GIVEN_TAG.validate_python(text)
    except ValidationError as error:
        (first, *_) = error.errors(include_url=False, include_input=False)
        raise InvalidTag(describe_error(first)) from error
    require_not_album_id(tag, album_id)
    return tag


def require_not_album_id(tag: str, album_id: str) -> None:
    """Raise InvalidTag if the tag is the album's id."""
    if tag == album_id:
        raise InvalidTag("must not be the album's id")


def add_tags(tags: Iterable[str], added: Iterable[str]) -> list[str]:
    """Return the tags and, behind them, the added ones that are new. Raises TooManyTags."""
    merged = list(dict.fromkeys([*tags, *added]))
    if len(merged) > MAX_TAGS:
        raise TooManyTags
    return merged
