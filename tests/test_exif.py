"""What the camera wrote: as JSON values, as a position, and whatever a stranger wrote instead."""

import io
import json
import math
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base
from PIL.TiffImagePlugin import IFDRational

from exif_blocks import Stored, exif_block
from imageapi.imaging.exif import MAX_EXIF_JSON_BYTES, MAX_LIST_VALUES, Exif, read_exif_values
from imageapi.imaging.exif_position import read_exif_position
from imageapi.imaging.exif_text import MAX_TEXT_CHARACTERS

NOWHERE = IFDRational(0, 0)
LISBON = {
    GPS.GPSLatitudeRef: "N",
    GPS.GPSLatitude: (IFDRational(38), IFDRational(42), IFDRational(4950, 100)),
    GPS.GPSLongitudeRef: "W",
    GPS.GPSLongitude: (IFDRational(9), IFDRational(8), IFDRational(2160, 100)),
}


def exif_of(
    ifd0: dict[int, Any] | None = None,
    camera: dict[int, Any] | None = None,
    gps: dict[int, Any] | None = None,
    order: str = "<",
) -> Exif:
    return Exif.parse(exif_block(ifd0, camera, gps, order))


def through_jpeg(exif: Image.Exif) -> Exif:
    """What is read from a photograph that Pillow wrote this into."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", exif=exif)
    with Image.open(file) as image:
        return Exif.parse(image.info["exif"])


def by_pillow(
    ifd0: dict[int, Any] | None = None,
    camera: dict[int, Any] | None = None,
    gps: dict[int, Any] | None = None,
) -> Image.Exif:
    exif = Image.Exif()
    exif.update(ifd0 or {})
    exif.get_ifd(IFD.Exif).update(camera or {})
    exif.get_ifd(IFD.GPSInfo).update(gps or {})
    return exif


def photograph() -> Image.Exif:
    return by_pillow(
        {Base.Make: "NIKON", Base.Orientation: 6, Base.XResolution: IFDRational(300)},
        {
            Base.ExposureTime: IFDRational(1, 4),
            Base.DateTimeOriginal: "2016:02:15 13:02:58",
            Base.LensSpecification: (IFDRational(24), IFDRational(70), NOWHERE, NOWHERE),
            Base.ExifVersion: b"0232",
            Base.FlashPixVersion: b"0100",
            Base.UserComment: b"ASCII\0\0\0a comment   \0",
            Base.MakerNote: b"Nikon\0\2",
            Base.FileSource: b"\3",
        },
        {GPS.GPSVersionID: b"\2\3\0\0", GPS.GPSAltitudeRef: b"\1", **LISBON},
    )


def as_json(exif: Exif) -> str:
    return json.dumps(read_exif_values(exif), allow_nan=False, separators=(",", ":"))


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for each in (*value, *value.values()) for text in strings(each)]
    if isinstance(value, list):
        return [text for each in value for text in strings(each)]
    return [value] if isinstance(value, str) else []


def assert_fit_for_json(exif: Exif) -> None:
    """Whatever the exif holds: encodable, within the limits, each text clean, a place on Earth."""
    values = read_exif_values(exif)
    assert json.loads(as_json(exif)) == values
    assert len(as_json(exif)) <= MAX_EXIF_JSON_BYTES
    json.dumps(values, ensure_ascii=False, allow_nan=False).encode()
    for text in strings(values):
        assert len(text) <= MAX_TEXT_CHARACTERS
        assert {unicodedata.category(each) for each in set(text) - set("\n\t")}.isdisjoint(
            {"Cc", "Cs"}
        )
    if (position := read_exif_position(exif)) is not None:
        assert abs(position[0]) <= 90
        assert abs(position[1]) <= 180


def test_values_of_a_photograph_come_in_the_order_of_their_ifds() -> None:
    values = read_exif_values(through_jpeg(photograph()))
    assert values == {
        "Make": "NIKON",
        "Orientation": 6,
        "XResolution": 300,
        "ExposureTime": 0.25,
        "ExifVersion": "0232",
        "DateTimeOriginal": "2016:02:15 13:02:58",
        "UserComment": "a comment",
        "FlashPixVersion": "0100",
        "LensSpecification": [24, 70, None, None],
        "GPSVersionID": [2, 3, 0, 0],
        "GPSLatitudeRef": "N",
        "GPSLatitude": [38, 42, 49.5],
        "GPSLongitudeRef": "W",
        "GPSLongitude": [9, 8, 21.6],
        "GPSAltitudeRef": 1,
    }
    assert [*values][:4] == ["Make", "Orientation", "XResolution", "ExposureTime"]
    assert [*values][-1] == "GPSAltitudeRef"


def test_whole_numbers_are_ints() -> None:
    values = read_exif_values(through_jpeg(photograph()))
    assert isinstance(values["XResolution"], int)
    assert isinstance(values["ExposureTime"], float)


def test_photograph_without_exif_has_no_values_and_no_position() -> None:
    for exif in (exif_of(), exif_of({}, {}, {})):
        assert read_exif_values(exif) == {}
        assert read_exif_position(exif) is None


@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0", b"Exif\0\0Exif\0\0"])
def test_prefixes_are_skipped(prefix: bytes) -> None:
    assert read_exif_values(Exif.parse(prefix + exif_block({Base.Make: "a"}))) == {"Make": "a"}


def test_big_endian_reads_the_same() -> None:
    little, big = (
        exif_of(
            {Base.Make: "a", Base.XResolution: IFDRational(1, 3)}, {Base.ISOSpeed: 7}, LISBON, each
        )
        for each in "<>"
    )
    assert read_exif_values(little) == read_exif_values(big)
    assert read_exif_position(little) == read_exif_position(big) is not None


@pytest.mark.parametrize(
    "tag", [Base.XMLPacket, Base.IPTCNAA, Base.ImageResources, Base.InterColorProfile, 50341, 330]
)
def test_blocks_of_other_standards_and_pointers_are_left_out(tag: int) -> None:
    for value in (b"text", "text", 7, (7, 8)):
        assert read_exif_values(exif_of({tag: value})) == {}


def test_tags_without_a_known_name_are_left_out() -> None:
    exif = exif_of({0xFEDC: 1}, {0xFEDC: "a"}, {200: "b"})
    assert read_exif_values(exif) == {}


def test_thumbnail_and_interoperability_ifds_are_left_out() -> None:
    exif = by_pillow({Base.Make: "a"}, {IFD.Interop: {1: "R98"}})
    assert read_exif_values(through_jpeg(exif)) == {"Make": "a"}


def test_of_two_tags_with_one_name_the_first_stays() -> None:
    assert read_exif_values(exif_of({Base.Software: "a"}, {Base.Software: "b"})) == {
        "Software": "a"
    }


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


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (IFDRational(5, 0), None),
        (IFDRational(-1, 3), -1 / 3),
        (Fraction(4, 2), 2),
        (math.nan, None),
        (math.inf, None),
        (-math.inf, None),
        (-0.0, 0),
        (1e300, 1e300),
        (True, 1),
        (2**64 - 1, 2**64 - 1),
        ((1, math.nan, IFDRational(1, 4)), [1, None, 0.25]),
        (Stored(6, b"\xff\1"), [-1, 1]),
    ],
)
def test_numbers_are_json(value: Any, read: object) -> None:
    values = read_exif_values(exif_of({Base.BatteryLevel: value}))
    assert values == {"BatteryLevel": read}
    assert type(values["BatteryLevel"]) is type(read)


@pytest.mark.parametrize(
    "value",
    [
        b"binary",
        (),
        Stored(1, b"binary"),
        Stored(99, b"of no known type"),
        Stored(4, b"1234", 2**32 - 1),
        Stored(2, b"far beyond the end", 2**32 - 1),
        Stored(129, b"\xff\xff\xff\xff", 5),
        (1,) * (MAX_LIST_VALUES + 1),
    ],
    ids=str,
)
def test_values_without_a_place_in_json_are_left_out(value: Any) -> None:
    exif = exif_of({Base.BatteryLevel: value, Base.Artist: "stays"})
    assert read_exif_values(exif) == {"Artist": "stays"}


@pytest.mark.parametrize(
    "pointer",
    [0, 7, 0xFFFFFFFF, 2**32, -1, "8", b"8", (8, 8), (), 8.5, math.nan, math.inf, Stored(99, b"8")],
    ids=str,
)
def test_directory_that_cannot_be_read_costs_only_itself(pointer: Any) -> None:
    exif = exif_of({Base.Make: "a", IFD.Exif: pointer, IFD.GPSInfo: pointer})
    assert read_exif_values(exif) == {"Make": "a"}
    assert read_exif_position(exif) is None


def test_directories_that_are_one_are_read() -> None:
    exif = exif_of({Base.Make: "a", IFD.Exif: 8, IFD.GPSInfo: 8})
    assert read_exif_values(exif) == {"Make": "a"}


def test_long_text_is_cut() -> None:
    exif = exif_of({Base.Artist: "é" * (MAX_TEXT_CHARACTERS + 1)})
    assert read_exif_values(exif) == {"Artist": "é" * MAX_TEXT_CHARACTERS}


def test_list_of_the_most_values_is_kept() -> None:
    exif = exif_of({Base.BitsPerSample: (1,) * MAX_LIST_VALUES})
    assert read_exif_values(exif) == {"BitsPerSample": [1] * MAX_LIST_VALUES}


def test_what_is_beyond_the_largest_json_is_left_out() -> None:
    tags = [tag for tag in Base if tag.name.startswith(("Image", "Lens", "DNG", "Profile"))]
    exif = exif_of(
        {Base.Artist: "kept", **dict.fromkeys(tags, "東" * MAX_TEXT_CHARACTERS)}, {}, {1: "N"}
    )
    assert 6 * MAX_TEXT_CHARACTERS < len(as_json(exif)) <= MAX_EXIF_JSON_BYTES
    assert "GPSLatitudeRef" not in read_exif_values(exif)


def test_position_is_in_degrees() -> None:
    position = read_exif_position(through_jpeg(photograph()))
    assert position == pytest.approx([38.713750, -9.139333], abs=1e-6)


@pytest.mark.parametrize(("north_south", "latitude"), [("N", 1.5), ("S", -1.5), ("south", -1.5)])
@pytest.mark.parametrize(("east_west", "longitude"), [("E", 2.5), ("W", -2.5), ("w\0", -2.5)])
def test_position_has_its_hemispheres(
    north_south: str, latitude: float, east_west: str, longitude: float
) -> None:
    gps = {1: north_south, 2: (1, 30), 3: east_west, 4: (2, 30)}
    assert read_exif_position(through_jpeg(by_pillow(gps=gps))) == [latitude, longitude]
    assert read_exif_position(exif_of(gps=gps)) == [latitude, longitude]


@pytest.mark.parametrize("type_", [1, 2, 7, 129])
@pytest.mark.parametrize("ref", [b"S", b"S\0", b" s \0", b"\0S", b"South\0"])
def test_hemisphere_is_its_letter(type_: int, ref: bytes) -> None:
    exif = exif_of(gps={**LISBON, 1: Stored(type_, ref), 2: 10, 4: 20})
    assert read_exif_position(exif) == [-10, -20]
    if not ref.startswith(b"\0"):
        assert str(read_exif_values(exif)["GPSLatitudeRef"]).strip() == ref.decode().strip(" \0")


@pytest.mark.parametrize(
    ("angle", "degrees"),
    [
        ((48, 51, IFDRational(6000, 100)), 48 + 52 / 60),
        ((48, 60, 0), 49),
        ((48, 59, 60), 49),
        ((89, 59, 60), 90),
        ((48, IFDRational(60)), 49),
        ((48, 30, NOWHERE), 48.5),
        ((48, NOWHERE, NOWHERE), 48),
        ((48, NOWHERE), 48),
        ((IFDRational(485, 10), NOWHERE, 0), 48.5),
    ],
)
def test_rounded_and_missing_minutes_are_read(angle: Any, degrees: float) -> None:
    position = read_exif_position(exif_of(gps=LISBON | {2: angle, 4: 20}))
    assert position == [pytest.approx(degrees, abs=1e-12), -20]


@pytest.mark.parametrize(
    "angle",
    [(-48, 51, 30), (-48, -51, -30), (48, 51, 30), IFDRational(-48858333, 10**6), -48.858333],
)
def test_sign_that_agrees_with_the_hemisphere_changes_nothing(angle: Any) -> None:
    position = read_exif_position(exif_of(gps=LISBON | {1: "S", 2: angle, 3: "W", 4: angle}))
    assert position == pytest.approx([-48.858333, -48.858333], abs=1e-6)


def test_sign_of_less_than_a_degree_agrees() -> None:
    position = read_exif_position(exif_of(gps=LISBON | {1: "S", 2: (0, -30, 0), 4: 20}))
    assert position == [-0.5, -20]


@pytest.mark.parametrize("angle", [(10,), (9.0, 60 - 1e-9), 10, IFDRational(20, 2), [10, 0, 0]])
def test_angle_is_one_to_three_numbers(angle: Any) -> None:
    assert read_exif_position(exif_of(gps=LISBON | {2: angle, 4: angle})) == pytest.approx(
        [10, -10]
    )


@pytest.mark.parametrize("angle", [(90, 0, 0), 90])
def test_poles_are_places(angle: Any) -> None:
    assert read_exif_position(exif_of(gps=LISBON | {1: "S", 2: angle, 4: 180})) == [-90, -180]


@pytest.mark.parametrize("missing", [1, 2, 3, 4])
def test_half_a_position_is_none(missing: int) -> None:
    exif = exif_of(gps={tag: value for tag, value in LISBON.items() if tag != missing})
    assert read_exif_position(exif) is None


@pytest.mark.parametrize(
    "nonsense",
    [
        {1: ""},
        {1: "E"},
        {3: "N"},
        {3: "\0"},
        {1: 78},
        {1: Stored(2, b"")},
        {2: NOWHERE},
        {2: (38, IFDRational(5, 0), 0)},
        {2: (NOWHERE, 30, 0)},
        {2: (38, math.nan, 0)},
        {2: (38, 0, math.nan)},
        {2: math.inf},
        {2: (-1, 0, 0)},
        {2: (1, -1, 0)},
        {1: "S", 2: (1, -1, 0)},
        {2: (-38, 42, 0)},
        {2: (0, -42, 0)},
        {4: 9.5, 3: "E", 2: -1},
        {2: (1, 61, 0)},
        {2: (1, 0, 61)},
        {2: (1, 0, IFDRational(6001, 100))},
        {2: (90, 0, 60)},
        {2: (90, 0, 0.1)},
        {2: 91},
        {4: (180, 1)},
        {2: ()},
        {2: (1, 2, 3, 4)},
        {2: "38"},
        {2: Stored(2, b"38\042\00\0")},
        {2: b"\x26"},
        {2: Stored(1, b"\x26")},
        {2: Stored(99, b"\x26")},
        {2: Stored(5, b"\x26\0\0\0\1\0\0\0", 2**32 - 1)},
        {2: 1e300},
    ],
)
def test_nonsense_is_no_position(nonsense: dict[int, Any]) -> None:
    assert read_exif_position(exif_of(gps=LISBON | nonsense)) is None


def test_zero_and_zero_is_a_camera_without_a_fix() -> None:
    nowhere = (IFDRational(0), IFDRational(0), IFDRational(0))
    assert read_exif_position(exif_of(gps=LISBON | {2: nowhere, 4: nowhere})) is None


@pytest.mark.parametrize("gps", [{1: "S", 2: 0}, {4: 0}])
def test_equator_and_meridian_are_places_without_a_sign(gps: dict[int, Any]) -> None:
    position = read_exif_position(exif_of(gps=LISBON | gps))
    assert position is not None
    assert "-0.0" not in map(str, position)


def assert_any_block_is_fit(block: bytes) -> None:
    with suppress(ValueError):
        assert_fit_for_json(Exif.parse(block))


@given(
    st.sampled_from([b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"MM\0+\0\x08\0\0"]), st.binary()
)
@example(b"II*\0", b"\0\0\0\0")
def test_any_bytes_are_read_without_an_error(head: bytes, rest: bytes) -> None:
    assert_any_block_is_fit(head + rest)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*Base, *IFD]).filter(lambda tag: tag > 0),
            st.integers(0, 18) | st.just(129),
            st.binary(max_size=64),
        ),
        max_size=12,
    ),
    st.sampled_from("<>"),
)
def test_any_tags_of_any_type_are_read_without_an_error(
    tags: list[tuple[int, int, bytes]], order: str
) -> None:
    fields = {tag: Stored(type_, content) for tag, type_, content in tags}
    assert_fit_for_json(exif_of(fields, fields, fields, order))


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged_photograph_is_read_without_an_error(damage: list[tuple[int, int]]) -> None:
    block = bytearray(photograph().tobytes()[6:])
    for place, byte in damage:
        block[place % len(block)] = byte
    assert_any_block_is_fit(bytes(block))


@given(st.integers(0, 1000))
def test_photograph_that_ends_early_is_read_without_an_error(length: int) -> None:
    assert_any_block_is_fit(photograph().tobytes()[6:][:length])


@given(st.text(st.characters(codec=None)), st.binary())
def test_any_text_and_comment_come_out_clean(text: str, comment: bytes) -> None:
    camera = {Base.UserComment: b"UNICODE\0" + comment, Base.XPTitle: comment}
    assert_fit_for_json(exif_of({}, {Base.UserComment: comment}, {GPS.GPSAreaInformation: comment}))
    assert_fit_for_json(exif_of({Base.Artist: text}, camera, {1: text}))


@given(st.floats(-90, 90), st.floats(-180, 180))
def test_any_place_is_found_again(latitude: float, longitude: float) -> None:
    gps = {1: "S" if latitude < 0 else "N", 2: abs(latitude), 4: abs(longitude)}
    position = read_exif_position(exif_of(gps={**gps, 3: "W" if longitude < 0 else "E"}))
    assert position == ([latitude, longitude] if latitude or longitude else None)
    signed = {1: gps[1], 2: latitude, 3: "W" if longitude < 0 else "E", 4: longitude}
    assert read_exif_position(exif_of(gps=signed)) == position
