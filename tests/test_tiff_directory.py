"""Directories of TIFF, BigTIFF and EXIF blocks: right ones, damaged ones, and hostile ones."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imageapi.imaging.tiff_directory import MAX_DIRECTORIES, MAX_FIELDS, Directory, TiffBlock

HEADS = {
    ("<", False): b"II*\0",
    (">", False): b"MM\0*",
    ("<", True): b"II+\0\x08\0\0\0",
    (">", True): b"MM\0+\0\x08\0\0",
}


def block(
    *fields: tuple[int, int, int, bytes], order: str = "<", big: bool = False, following: int = 0
) -> bytes:
    """One directory of tags, types, counts and stored values."""
    place, count, entry = ("Q", "Q", "HHQ8s") if big else ("L", "H", "HHL4s")
    room = 8 if big else 4
    start = len(HEADS[order, big]) + room
    after = start + struct.calcsize(f"<{count}") + len(fields) * struct.calcsize(f"<{entry}") + room
    entries, values = b"", b""
    for tag, type_, number, stored in fields:
        inline = stored.ljust(room, b"\0")
        if len(stored) > room:
            inline = struct.pack(f"{order}{place}", after + len(values))
            values += stored
        entries += struct.pack(f"{order}{entry}", tag, type_, number, inline)
    head = HEADS[order, big] + struct.pack(f"{order}{place}", start)
    following_ = struct.pack(f"{order}{place}", following)
    return head + struct.pack(f"{order}{count}", len(fields)) + entries + following_ + values


def first(content: bytes) -> Directory:
    return next(TiffBlock.parse(content).iterate_directories())


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_fields_of_every_type_are_read(order: str, big: bool) -> None:
    def pack(code: str, *values: float) -> bytes:
        return struct.pack(f"{order}{code}", *values)

    fields = {
        1: (1, pack("3B", 1, 2, 255), (1, 2, 255)),
        2: (2, b"ab\0", (97, 98, 0)),
        3: (3, pack("3H", 1, 2, 65535), (1, 2, 65535)),
        4: (4, pack("L", 2**32 - 1), (2**32 - 1,)),
        5: (5, pack("6L", 1, 4, 3, 0, 0, 0), (0.25, math.inf, math.nan)),
        6: (6, pack("b", -1), (-1,)),
        7: (7, b"\0\xff", (0, 255)),
        8: (8, pack("2h", -1, 1), (-1, 1)),
        9: (9, pack("2l", -(2**31), 1), (-(2**31), 1)),
        10: (10, pack("2l", -1, 4), (-0.25,)),
        11: (11, pack("f", 0.5), (0.5,)),
        12: (12, pack("2d", 0.1, 1e300), (0.1, 1e300)),
        13: (13, pack("L", 8), (8,)),
        16: (16, pack("Q", 2**64 - 1), (2**64 - 1,)),
        17: (17, pack("q", -(2**63)), (-(2**63),)),
        18: (18, pack("Q", 8), (8,)),
        129: (129, "é".encode(), (0xC3, 0xA9)),
    }
    directory = first(
        block(
            *((tag, type_, len(right), stored) for tag, (type_, stored, right) in fields.items()),
            order=order,
            big=big,
        )
    )
    assert [*directory] == [*fields]
    for tag, (type_, stored, right) in fields.items():
        assert directory[tag].type == type_
        assert directory[tag].read_bytes() == stored
        assert str(directory[tag].read_numbers()) == str(right)


def test_missing_or_unreadable_numbers_have_a_default() -> None:
    directory = first(block((1, 99, 1, b""), (2, 4, 2**32 - 1, b"12345"), (3, 3, 1, b"\1\0")))
    assert directory.read_numbers(1, (5,)) == (5,)
    assert directory.read_numbers(2, (5,)) == (5,)
    assert directory.read_numbers(3, (5,)) == (1,)
    assert directory.read_numbers(4) == ()


def test_of_two_fields_with_one_tag_the_first_stays() -> None:
    assert first(block((1, 3, 1, b"\1\0"), (1, 3, 1, b"\2\0"))).read_numbers(1) == (1,)


def test_values_beyond_the_limit_are_not_read() -> None:
    directory = first(block((1, 7, 9, b"123456789"), (2, 12, 2**32 - 1, b"\x08\0\0\0")))
    assert directory[1].read_bytes(9) == b"123456789"
    assert directory[1].read_start(8) == b"12345678"
    with pytest.raises(ValueError, match="more than 8 bytes"):
        directory[1].read_bytes(8)
    with pytest.raises(ValueError, match="beyond the end"):
        directory[2].read_bytes(100)


@pytest.mark.parametrize("big", [False, True])
def test_directory_that_is_cut_has_the_fields_that_are_there(big: bool) -> None:
    whole = block((1, 3, 1, b"\1\0"), (2, 3, 1, b"\2\0"), big=big)
    size = 20 if big else 12
    cut = whole[: len(whole) - (8 if big else 4) - size // 2]
    assert [*first(cut)] == [1]


@pytest.mark.parametrize(
    "head", [b"", b"II", b"II*\0", b"II*\0\x08\0\0", b"MM+\0\x08\0\0\0", b"XX*\0"]
)
def test_what_is_no_header_is_refused(head: bytes) -> None:
    with pytest.raises(ValueError, match=r"byte order|TIFF|beyond the end"):
        TiffBlock.parse(head)


@pytest.mark.parametrize("head", [b"II\0*", b"MM*\0"])
def test_number_in_the_other_byte_order_is_read(head: bytes) -> None:
    order = "<" if head[:2] == b"II" else ">"
    content = block((1, 1, 1, b"\7"), order=order)
    assert first(head + content[4:]).read_numbers(1) == (7,)


def test_directories_that_follow_in_a_loop_are_read_once() -> None:
    assert len([*TiffBlock.parse(block((1, 1, 1, b"\1"), following=8)).iterate_directories()]) == 1


def test_directories_and_fields_have_limits() -> None:
    chain = b"".join(struct.pack("<HL", 0, 8 + 6 * (at + 1)) for at in range(MAX_DIRECTORIES + 9))
    directories = TiffBlock.parse(b"II*\0\x08\0\0\0" + chain).iterate_directories()
    assert len([*directories]) == MAX_DIRECTORIES
    many = block(*((tag, 1, 1, b"\1") for tag in range(MAX_FIELDS + 9)), following=0)
    assert len(first(many)) == MAX_FIELDS


@given(st.sampled_from([*HEADS.values()]), st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(head: bytes, rest: bytes) -> None:
    try:
        directories = [*TiffBlock.parse(head + rest).iterate_directories()]
    except ValueError:
        return
    for directory in directories:
        for tag in directory:
            assert isinstance(directory.read_numbers(tag), tuple)
