"""Texts of EXIF data, also those with errors that writers are known for."""

from collections.abc import Callable
from typing import Any

import pytest
from PIL.ExifTags import GPS, Base
from PIL.TiffImagePlugin import IFDRational

from exif_blocks import Stored, by_pillow, exif_of, through_jpeg
from imageapi.imaging.exif import read_exif_values
from imageapi.imaging.exif_text import MAX_TEXT_CHARACTERS


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (b"Jos\xc3\xa9\0", "José"),
        (b"Jos\xe9\0", "José"),
        (b"\xe6\x9d\xb1\xe4\xba\xac\0", "東京"),
        (b"ab\x01\x1b\x7fc\td\r\ne \0 \0", "abc\td\ne"),
        (b"GoPro\0\x01\x02XYZ\0", "GoPro"),
        (b"no NUL at all", "no NUL at all"),
        (b"\0behind", ""),
        ("Müller 東京".encode()[:-1], "Müller 東"),
        ("Müller 東京".encode()[:-2] + b"\0", "Müller 東"),
        ("Sevilla 東".encode()[:-1], "Sevilla "[:-1]),
        (b"Andr\xe9\0", "André"),
        (b"\xef\xbb\xbfmarked\0", "marked"),
        (b"caf\xe9 \x85 \x9f", "café"),
        (b"    \0", ""),
    ],
)
def test_texts_are_repaired_and_trimmed(written: bytes, read: str) -> None:
    for type_ in (2, 129, 7, 1):
        assert read_exif_values(exif_of({Base.Artist: Stored(type_, written)})) == {"Artist": read}


def test_lone_surrogates_are_dropped() -> None:
    exif = exif_of({Base.XPTitle: "a\ud800b".encode("utf-16-le", "surrogatepass")})
    assert read_exif_values(exif) == {"XPTitle": "ab"}


@pytest.mark.parametrize(
    ("order", "comment", "read"),
    [
        ("<", b"UNICODE\0" + "é東🌸\0".encode("utf-16-le"), "é東🌸"),
        (">", b"UNICODE\0" + "é東🌸\0".encode("utf-16-be"), "é東🌸"),
        (">", b"UNICODE\0" + "marked".encode("utf-16"), "marked"),
        (">", b"UNICODE\0" + "Ø🌸".encode("utf-16-le"), "Ø🌸"),
        ("<", b"UNICODE\0" + "odd".encode("utf-16-le") + b"\0", "odd"),
        ("<", b"ASCII\0\0\0" + "é".encode(), "é"),
        ("<", b"ASCII\0\0\0", ""),
        ("<", b"ASCII\0\0\0ab\0cd\0", "ab"),
        ("<", b"ASCII   ab", "ab"),
        ("<", b"ASCII\0xyab", "ab"),
        ("<", b"UNICODE\0" + "score_9, 1girl".encode("utf-16-be"), "score_9, 1girl"),
        (">", b"UNICODE\0" + "score_9, 1girl".encode("utf-16-le"), "score_9, 1girl"),
        ("<", b"UNICODE\0" + "hé 東京".encode("utf-16-be"), "hé 東京"),
        ("<", b"UNICODE\0" + "東京都千代田区".encode("utf-16-le"), "東京都千代田区"),
        (">", b"UNICODE\0" + "東京都千代田区".encode("utf-16-be"), "東京都千代田区"),
        (">", b"UNICODE\0" + "東京都千代田区".encode("utf-16-le"), "東京都千代田区"),
        ("<", b"UNICODE\0" + "서울특별시".encode("utf-16-be"), "서울특별시"),
        ("<", b"UNICODE\0" + "Москва".encode("utf-16-be"), "Москва"),
        (">", b"UNICODE\0" + "Москва".encode("utf-16-be"), "Москва"),
        ("<", b"UNICODE\0" + "東".encode("utf-16-le"), "東"),
        ("<", b"UNICODE\0" + "ab\0cd".encode("utf-16-le"), "ab"),
        ("<", b"UNICODE " + "ab".encode("utf-16-le"), "ab"),
        ("<", b"UNICODE\0" + "ab🌸".encode("utf-16-le")[:-2], "ab"),
        ("<", b"UNICODE\0", ""),
        ("<", b"Unicode\0eight bits", "eight bits"),
        ("<", b"Unicode\0" + "ab".encode("utf-16-le"), "ab"),
        ("<", bytes(8) + b"hello\0", "hello"),
        ("<", bytes(8) + "Größe".encode(), "Größe"),
        ("<", b"        hello", "hello"),
        ("<", b"\0garbageabc", "abc"),
        ("<", b"text", "text"),
        ("<", b"a text without a code", "a text without a code"),
        ("<", b"JIS\0\0\0\0\0" + "東京 abc".encode("iso2022_jp") + b"\0", "東京 abc"),
        ("<", b"JIS\0\0\0\0\0" + "東京".encode("shift_jis"), "東京"),
        ("<", b"JIS\0\0\0\0\0text", "text"),
    ],
)
@pytest.mark.parametrize("type_", [2, 7, 129, 1])
def test_comment_is_read_by_its_character_code(
    type_: int, order: str, comment: bytes, read: str
) -> None:
    exif = exif_of({}, {Base.UserComment: Stored(type_, comment)}, order=order)
    assert read_exif_values(exif) == {"UserComment": read}


@pytest.mark.parametrize(
    "comment",
    [
        b"",
        bytes(125),
        b"        " + bytes(8),
        bytes(8) + b"\1\2binary",
        b"\1\2\3\4\5\6\7\x08\x0b",
        b"JIS\0\0\0\0\0\xff\xff",
        b"UNICODE\0\xd8\xd8\xd8\xd8",
    ],
)
def test_comment_that_is_no_text_is_left_out(comment: bytes) -> None:
    assert read_exif_values(exif_of({}, {Base.UserComment: comment})) == {}


@pytest.mark.parametrize("tag", [GPS.GPSProcessingMethod, GPS.GPSAreaInformation])
def test_gps_texts_are_read_by_their_character_code(tag: GPS) -> None:
    exif = through_jpeg(by_pillow(gps={tag: b"ASCII\0\0\0NETWORK\0"}))
    assert read_exif_values(exif) == {tag.name: "NETWORK"}
    for stored in (Stored(2, b"GPS\0"), bytes(8) + b"GPS", b"UNICODE\0\0G\0P\0S"):
        assert read_exif_values(exif_of(gps={tag: stored})) == {tag.name: "GPS"}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (b"Joe Photo\0", "Joe Photo"),
        (b"Joe Photo\0Jane Edit\0", "Joe Photo\nJane Edit"),
        (b"Joe Photo \0Jane Edit \0\0\0", "Joe Photo\nJane Edit"),
        (b"Joe\0Jane\0junk", "Joe\nJane"),
        (b" \0Jane Edit\0", "\nJane Edit"),
        (b"Joe\0 \0", "Joe"),
        ("José\0Zoë".encode(), "José\nZoë"),
        (b"Jos\xe9\0Zo\xc3\xab", "José\nZoë"),
        (b"\0", ""),
    ],
)
@pytest.mark.parametrize("type_", [2, 7, 129])
def test_copyright_is_of_photographer_and_editor(written: bytes, read: str, type_: int) -> None:
    assert read_exif_values(exif_of({Base.Copyright: Stored(type_, written)})) == {
        "Copyright": read
    }


def test_texts_of_exif_3_are_read() -> None:
    names = (
        *("ImageTitle", "Photographer", "ImageEditor", "CameraFirmware", "RAWDevelopingSoftware"),
        *("ImageEditingSoftware", "MetadataEditingSoftware"),
    )
    texts = {tag: Stored(129, "東京\0".encode()) for tag in range(0xA436, 0xA43D)}
    assert read_exif_values(exif_of({}, texts)) == dict.fromkeys(names, "東京")


@pytest.mark.parametrize(
    "tag", [Base.XPTitle, Base.XPComment, Base.XPAuthor, Base.XPKeywords, Base.XPSubject]
)
@pytest.mark.parametrize("shape", [bytes, tuple, lambda content: Stored(1, content)])
@pytest.mark.parametrize("junk", ["", "\0", "\0\0abcd", "\0junk"])
def test_windows_texts_are_utf_16(tag: Base, shape: Callable[[bytes], Any], junk: str) -> None:
    written = shape(f"Été 🌸{junk}".encode("utf-16-le"))
    assert read_exif_values(exif_of({tag: written})) == {tag.name: "Été 🌸"}


@pytest.mark.parametrize("value", [(256, 0), (-1, 0), (IFDRational(1),), 10**12 + 0.5])
def test_windows_text_that_is_no_bytes_is_no_text(value: Any) -> None:
    assert not isinstance(read_exif_values(exif_of({Base.XPTitle: value})).get("XPTitle"), str)


def test_windows_text_in_a_file_is_read() -> None:
    exif = exif_of({Base.XPTitle: Stored(1, "Été\0".encode("utf-16-le"))})
    assert read_exif_values(exif) == {"XPTitle": "Été"}


def test_long_text_is_cut() -> None:
    exif = exif_of({Base.Artist: "é" * (MAX_TEXT_CHARACTERS + 1)})
    assert read_exif_values(exif) == {"Artist": "é" * MAX_TEXT_CHARACTERS}
