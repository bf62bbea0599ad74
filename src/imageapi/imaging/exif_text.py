"""Decodes the texts of EXIF data (EXIF 3.0 §4.6.2 and §4.6.5), also those with errors."""

import re
from contextlib import suppress

MAX_TEXT_CHARACTERS = 4096
MAX_TEXT_BYTES = 8 + 4 * MAX_TEXT_CHARACTERS
"""What the longest text needs, with its character code."""

_SURROGATES = range(0xD800, 0xE000)
_CONTROLS = {*range(0x20), *range(0x7F, 0xA0)} - {ord("\t"), ord("\n")}
_UNWANTED = dict.fromkeys({*_SURROGATES, *_CONTROLS, 0xFEFF})
_BINARY = re.compile(rb"[^\t\n\r\x20-\x7e\x80-\xff]")

#: Greek to Thai; Japanese, Chinese and Korean; fullwidth forms.
_COMMON_SCRIPTS = (
    range(0x0370, 0x0E80),
    range(0x3000, 0x3100),
    range(0x4E00, 0xA000),
    range(0xAC00, 0xD7A4),
    range(0xFF00, 0xFFF0),
)

_CODE_BYTES = 8
_BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")
_UTF_16 = {"<": "utf-16-le", ">": "utf-16-be"}


def decode_text(stored: bytes) -> str:
    """Return the text before the first NUL: UTF-8, or else Latin-1.

    UTF-8 may be cut within its last character, as it is in fields of fixed length.
    """
    return _clean(_decode_8_bit(stored))


def decode_copyright(stored: bytes) -> str:
    """Return the photographer's and the editor's copyright, with a line end between.

    They are stored with a NUL after each; an editor's alone follows a blank and a NUL.
    """
    photographer, editor, *_ = (*stored.split(b"\0"), b"")
    if not editor.strip():
        return decode_text(photographer)
    return _clean(f"{_decode_8_bit(photographer).rstrip(' ')}\n{_decode_8_bit(editor)}")


def decode_windows_text(stored: bytes) -> str:
    """Return the UTF-16, least byte first, before the first NUL, as Windows writes it."""
    return _clean(_cut_utf_16(stored).decode("utf-16-le", "ignore"))


def decode_coded_text(stored: bytes, order: str) -> str:
    """Return the text behind its eight bytes of character code (EXIF 3.0 §4.6.5, UserComment).

    A text without a code, or whose code is eight NULs ("undefined"), is read like any other text.
    ``order`` is the byte order of the block. Raises ValueError where there is no text.
    """
    code, text = stored[:_CODE_BYTES], stored[_CODE_BYTES:]
    name = code.rstrip(b"\0 ").upper()
    if name == b"ASCII" or code.startswith(b"ASCII\0"):
        return decode_text(text)
    if name == b"UNICODE":
        # Ricoh writes "Unicode" in front of ASCII.
        is_ascii = not code.startswith(b"UNICODE") and b"\0" not in text
        return _decode_uncoded(text) if is_ascii else _decode_utf_16(text, order)
    if name == b"JIS":
        return _clean(_decode_japanese(text))
    return _decode_uncoded(text if code.startswith(b"\0") or not name else stored)


def _decode_uncoded(stored: bytes) -> str:
    """Return the text. Raises ValueError where it is binary or empty, as cameras leave it."""
    stored = stored.partition(b"\0")[0]
    if not stored.strip() or _BINARY.search(stored):
        raise ValueError("no text")
    return decode_text(stored)


def _decode_8_bit(stored: bytes) -> str:
    stored = stored.partition(b"\0")[0]
    try:
        return stored.decode()
    except UnicodeDecodeError as error:
        whole, rest = stored[: error.start], stored[error.start :]
        is_cut = error.reason == "unexpected end of data"
        # A last byte alone may also be a letter of Latin-1.
        if is_cut and (len(rest) > 1 or not whole.isascii()):
            return whole.decode()
        return stored.decode("latin-1")


def _decode_utf_16(stored: bytes, order: str) -> str:
    """Return UTF-16 in the order of its mark, or else in the one that makes text.

    Some writers use another order than that of the block. Most texts have characters below 256:
    their upper byte is zero. Where this does not decide, more characters of living scripts do, and
    then the order of the block. Raises ValueError where the text is valid in neither.
    """
    if stored.startswith(_BYTE_ORDER_MARKS):
        order = "<" if stored.startswith(_BYTE_ORDER_MARKS[0]) else ">"
        return _clean(_cut_utf_16(stored).decode(_UTF_16[order], "ignore"))
    stored = _cut_utf_16(stored)
    zeros = {"<": stored[1::2].count(0), ">": stored[::2].count(0)}
    common = {each: _count_common(stored.decode(_UTF_16[each], "replace")) for each in _UTF_16}
    orders = sorted(_UTF_16, key=lambda each: (-zeros[each], -common[each], each != order))
    for each in orders:
        for text in (stored, stored[:-2]):  # a pair of surrogates may be cut
            with suppress(UnicodeDecodeError):
                return _clean(text.decode(_UTF_16[each]))
    raise ValueError("no UTF-16")


def _count_common(text: str) -> int:
    return sum(any(ord(character) in script for script in _COMMON_SCRIPTS) for character in text)


def _cut_utf_16(stored: bytes) -> bytes:
    """Return the whole characters before the first NUL, which is the same in both byte orders."""
    for place in range(0, len(stored) - 1, 2):
        if stored[place : place + 2] == b"\0\0":
            return stored[:place]
    return stored[: len(stored) // 2 * 2]


def _decode_japanese(stored: bytes) -> str:
    """Return JIS X 0208 with its escape sequences, or Shift JIS. Raises ValueError for others."""
    stored = stored.partition(b"\0")[0]
    try:
        return stored.decode("iso2022_jp")
    except UnicodeDecodeError:
        return stored.decode("shift_jis")


def _clean(text: str) -> str:
    """Remove control characters and surrogates, cut the text, and remove spaces at its end."""
    return text.translate(_UNWANTED)[:MAX_TEXT_CHARACTERS].rstrip(" ")
