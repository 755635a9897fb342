"""Ids: their form, their order and their uniqueness."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystead.kernel.ids import IdSource, SequentialIds, dated_ms, encode_base32, is_id, new_id
from tests.fakes import BEGINNING_MS, FixedRandom, ManualClock

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def uuid_of(text: str) -> uuid.UUID:
    """Read the UUID of an id, by another way than it was written."""
    value = 0
    for character in text.rpartition("_")[2]:
        value = value * 32 + ALPHABET.index(character)
    return uuid.UUID(int=value)


def moment_of(text: str) -> int:
    """Read the milliseconds of a UUIDv7."""
    return uuid_of(text).int >> 80


@given(now_ms=st.integers(0, 2**48 - 1), seed=st.integers(0, 1_000))
def test_an_id_is_a_uuid_of_version_7_and_dated(now_ms: int, seed: int) -> None:
    """Whoever reads the suffix as TypeID says finds a UUIDv7 (RFC 9562) of the millisecond it was made in."""
    made = new_id("key", now_ms=now_ms, random_bits=FixedRandom(seed).bits)
    found = uuid_of(made)
    assert is_id(made, "key")
    assert found.version == 7
    assert found.variant == uuid.RFC_4122
    assert moment_of(made) == now_ms
    assert dated_ms(made) == now_ms


def test_every_random_bit_reaches_the_id() -> None:
    """All 74 random bits make ids differ: none is lost in packing."""
    made = {new_id("key", now_ms=1, random_bits=lambda _, bit=bit: 1 << bit) for bit in range(74)}  # type: ignore[misc] # mypy cannot type a lambda with a default
    assert len(made) == 74


def test_ids_sort_by_time() -> None:
    """An id made later sorts later, which pages rely on."""
    clock = ManualClock()
    source = IdSource(clock, FixedRandom().bits)
    made = []
    for _ in range(100):
        made.append(source.new("key"))
        clock.advance(1)
    assert made == sorted(made)


@pytest.mark.parametrize(
    "text",
    (
        "key_",
        "key_01h455vb4pex5vsknk084sn02",
        "key_01h455vb4pex5vsknk084sn02q0",
        "key_81h455vb4pex5vsknk084sn02q",
        "key_01H455VB4PEX5VSKNK084SN02Q",
        "key_01h455vb4pex5vsknk084sn02u",
        "key_01h455vb4pex5vsknk084sn02q\n",
        "sec_01h455vb4pex5vsknk084sn02q",
    ),
)
def test_what_is_no_id_is_told(text: str) -> None:
    """Too short, too long, past 128 bits, upper case, a letter outside the alphabet, a line end, another prefix."""
    assert not is_id(text, "key")


def test_the_published_example_is_an_id() -> None:
    """The id of our own documentation has the form."""
    assert is_id("key_01h455vb4pex5vsknk084sn02q", "key")


@given(st.integers(0, 2**130 - 1))
def test_base32_is_positional(value: int) -> None:
    """What was written reads back as the same number."""
    read = 0
    for character in encode_base32(value, 26):
        read = read * 32 + ALPHABET.index(character)
    assert read == value


def test_sequential_ids_are_unique_and_well_formed() -> None:
    """Every verification has an id of its own, a UUIDv7 like all others, also many in one millisecond."""
    ids = SequentialIds("ver", FixedRandom().bits)
    made = [ids.next(BEGINNING_MS + count // 1_000) for count in range(5_000)]
    assert len(set(made)) == len(made)
    assert made == sorted(made)
    for text in made[::500]:
        found = uuid_of(text)
        assert is_id(text, "ver")
        assert (found.version, found.variant) == (7, uuid.RFC_4122)
    assert moment_of(made[-1]) == BEGINNING_MS + 4


def test_sequential_ids_survive_the_end_of_their_counter() -> None:
    """When the 40 bits are used up the counter begins anew, and ids keep their form."""
    ids = SequentialIds("ver", lambda count: (1 << count) - 1)
    ids.last_ordinal = 0xFF_FFFF_FFFE
    made = [ids.next(1) for _ in range(3)]
    assert len(set(made)) == 3
    assert all(is_id(text, "ver") for text in made)


def test_two_processes_do_not_share_ids() -> None:
    """Processes draw 66 bits of their own, so equal counters do not collide."""
    one, two = (SequentialIds("ver", FixedRandom(seed).bits) for seed in (1, 2))
    assert {one.next(1) for _ in range(100)}.isdisjoint({two.next(1) for _ in range(100)})


def test_a_sequential_id_can_be_written_again() -> None:
    """Time, process and ordinal are all of an id: a journal that keeps the three gives back the answer's very id."""
    ids = SequentialIds("ver", FixedRandom().bits)
    again = SequentialIds("ver", FixedRandom(2).bits, process=ids.process)
    assert len(ids.process) == 8
    made = [(ids.next(BEGINNING_MS + step // 3), BEGINNING_MS + step // 3, ids.last_ordinal) for step in range(100)]
    assert [again.again(at_ms, ordinal) for _, at_ms, ordinal in reversed(made)] == [
        text for text, _, _ in reversed(made)
    ]
    ids.last_ordinal = 0xFF_FFFF_FFFF
    assert ids.next(1) == again.again(1, 0)
