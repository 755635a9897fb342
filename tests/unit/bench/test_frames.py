"""What the load generator writes, against the examples of the standards."""

from __future__ import annotations

import pytest

from bench import frames


def test_a_header_is_put_into_the_table_as_the_standard_shows() -> None:
    """RFC 7541, C.2.1: a literal header with indexing."""
    block = frames.first_block([("custom-key", "custom-header")])
    assert block == bytes.fromhex("400a637573746f6d2d6b65790d637573746f6d2d686561646572")


def test_later_calls_name_the_places_in_the_table() -> None:
    """The table's first place, 62, is that of the header put in last (RFC 7541, 2.3.3)."""
    assert frames.later_block([("a", "1"), ("b", "2"), ("c", "3")]) == bytes([0x80 | 64, 0x80 | 63, 0x80 | 62])


@pytest.mark.parametrize(
    ("length", "written"), ((126, "7e"), (127, "7f00"), (128, "7f01"), (254, "7f7f"), (255, "7f8001"))
)
def test_long_strings_have_long_lengths(length: int, written: str) -> None:
    """A length beyond 126 goes on in further bytes (RFC 7541, 5.1)."""
    assert frames.first_block([("", "x" * length)]) == b"\x40\x00" + bytes.fromhex(written) + b"x" * length


def test_what_does_not_fit_the_table_is_refused() -> None:
    """A block that named places which the server has thrown out would be a broken connection."""
    with pytest.raises(ValueError, match="4096"):
        frames.first_block([("authorization", "x" * 4_096)])


def test_frames_have_their_length_first() -> None:
    """24 bits of length, kind, flags, stream (RFC 9113, 4.1)."""
    assert frames.frame(frames.DATA, frames.END_STREAM, 5, b"abc") == bytes.fromhex("000003 00 01 00000005") + b"abc"
    assert frames.frame(frames.DATA, 0, 1, bytes(16_384))[:3] == bytes.fromhex("004000")
    with pytest.raises(ValueError, match="16384"):
        frames.frame(frames.DATA, 0, 1, bytes(16_385))


def test_settings_are_read_as_they_are_written() -> None:
    """A SETTINGS frame says what was wished."""
    wishes = {frames.HEADER_TABLE_SIZE: 4_096, frames.INITIAL_WINDOW_SIZE: frames.WINDOW_MAX_BYTES}
    assert frames.read_settings(frames.settings(wishes)[frames.HEAD_BYTES :]) == wishes


def test_messages_have_a_head() -> None:
    """Not compressed, then four bytes of length."""
    assert frames.message(b"abc") == b"\x00\x00\x00\x00\x03abc"
