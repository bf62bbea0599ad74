"""What text a tag may be, before an album and its images are known.

Tags stand in paths, where ``.`` and ``..`` between slashes lead elsewhere: a proxy that resolves
them would turn a request about one image into one about another. And a tag is for people, so it
shows something.
"""

import re
import unicodedata

_CONTROLS = r"\x00-\x1f\x7f-\x9f"  # Unicode's category Cc
_CONTROL = re.compile(f"[{_CONTROLS}]")
_LINE_ENDS = r"\n\v\f\r\x1c-\x1e\x85\u2028\u2029"
_LINE_END = re.compile(f"[{_LINE_ENDS}]")
_INVISIBLE_CATEGORIES = {"Cc", "Cf", "Cn", "Zl", "Zp", "Zs"}
#: Letters, marks and a symbol that show nothing: the rest of Unicode's Default_Ignorable_Code_Point
#: (fillers, joiners, variation selectors), and the Braille pattern without dots.
_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_DOT_PART = re.compile(r"(?:^|/)\.\.?(?:/|$)")


def normalize_tag_text(text: str) -> str:
    """Return the text trimmed and in Unicode's form NFC. Raises ValueError for a line end."""
    if _LINE_END.search(text):
        raise ValueError("must not hold a line end")
    return unicodedata.normalize("NFC", text).strip()


def check_tag_text(text: str) -> None:
    """Raise ValueError, which says why, unless the text can be a tag. It is not empty."""
    if not (text.isascii() and text.isprintable() and text == text.strip()):
        _check_characters(text)
    if "." in text and _DOT_PART.search(text):
        raise ValueError("must not have a part between slashes that is . or ..")


def _check_characters(text: str) -> None:
    if _LINE_END.search(text):
        raise ValueError("must not hold a line end")
    if _CONTROL.search(text):
        raise ValueError("must not hold control characters")
    if all(map(_is_invisible, text)):
        raise ValueError("must show something")
    if text != unicodedata.normalize("NFC", text).strip():
        raise ValueError("must be trimmed and in Unicode's normal form C")


def _is_invisible(character: str) -> bool:
    is_blank = _BLANK.match(character) is not None
    return is_blank or unicodedata.category(character) in _INVISIBLE_CATEGORIES


def build_tag_pattern(max_characters: int) -> str:
    """Return the pattern of a tag as a person types it, for JSON schemas.

    It lets some tags through that show nothing: patterns do not know all of Unicode's categories.
    """
    controls = rf"{_CONTROLS}\u2028\u2029"
    visible, blanks = rf"[^\s{controls}]", rf"[^\S{_LINE_ENDS}]*"
    no_dots = r"(?!(\s*|.*/)\.{1,2}\s*(/.*)?$)"
    inner = rf"[^{controls}]{{0,{max_characters - 2}}}"
    return rf"^{no_dots}{blanks}{visible}({inner}{visible})?{blanks}$"
