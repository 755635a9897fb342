"""The journal's bytes: what was written is read back, and after any damage every whole record still is."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystead.kernel.ids import SequentialIds
from keystead.usage.model import Call, Subject
from keystead.usage.records import (
    CALL_BYTES,
    DEFINITION_PAYLOAD_MAX_BYTES,
    HEADER_BYTES,
    SUBJECT,
    TEXT,
    Reading,
    SegmentHeader,
    decode_header,
    definition_bytes,
    encode_definition,
    encode_subject,
    encode_text,
    salt_of,
    split_tags,
    write_call,
)

JOURNAL_ID = "jrn_01h455vb4pex5vsknk084sn02q"
PROCESS = "e01234567"[:8]
HEADER = SegmentHeader(JOURNAL_ID, 7, PROCESS, 1_700_000_000_000)
SALT = salt_of(JOURNAL_ID, 7)
ONE = Subject("wsp_1", "live", "key_1", "sec_1", "owner ü")
OTHER = Subject("wsp_1", "test", "key_2", "sec_2", "")


WORDS = {1: "orders.read", 2: "10.0.0.1", 3: "read:orders", 4: "region:eu\nteam:a"}


@dataclass(slots=True)
class Sample:
    """A segment as a process would write it: which call stands where, and on which definitions it depends."""

    data: bytearray = field(default_factory=lambda: bytearray(HEADER.encode()))
    calls: dict[int, Call] = field(default_factory=dict)
    definitions: dict[int, tuple[int, int]] = field(default_factory=dict)

    def define(self, kind: int, number: int, payload: bytes) -> None:
        """Write a definition."""
        record = encode_definition(SALT, len(self.data), kind, number, payload)
        assert len(record) == definition_bytes(payload)
        self.definitions[len(self.data)] = (kind, number)
        self.data += record

    def call(
        self, subject: Subject, number: int, *, ordinal: int, texts: tuple[int, int, int, int] = (0, 0, 0, 0)
    ) -> None:
        """Write a call."""
        place = len(self.data)
        at_ms = 1_700_000_000_000 + ordinal
        self.data += bytes(CALL_BYTES)
        write_call(memoryview(self.data), SALT, place, 1, number, *texts, 5, at_ms, ordinal)
        verification_id = SequentialIds("ver", process=PROCESS).again(at_ms, ordinal)
        words = {0: "", **WORDS}
        operation, address, scopes, tags = (words[number] for number in texts)
        said = (operation, address, scopes, split_tags(tags))
        self.calls[place] = Call(verification_id, at_ms, subject, 1, 5, *said)


def sample() -> Sample:
    """Write two keys, two texts and seven calls, with zeroes behind them."""
    made = Sample()
    made.define(SUBJECT, 1, encode_subject(ONE))
    made.call(ONE, 1, ordinal=1)
    made.define(TEXT, 1, encode_text("orders.read"))
    made.define(TEXT, 3, encode_text(WORDS[3]))
    made.call(ONE, 1, ordinal=2, texts=(1, 0, 3, 0))
    made.define(SUBJECT, 2, encode_subject(OTHER))
    made.define(TEXT, 2, encode_text("10.0.0.1"))
    made.define(TEXT, 4, encode_text(WORDS[4]))
    for ordinal in range(3, 8):
        subject = 1 + ordinal % 2
        made.call((ONE, OTHER)[subject - 1], subject, ordinal=ordinal, texts=(1, 2, 0, 4))
    made.data += bytes(48)
    return made


def read(data: bytes | bytearray, *, at_most: int = 1_000, since: int = 0) -> tuple[list[Call], Reading]:
    """Read a segment to its end."""
    reading, view = Reading(SALT, PROCESS), memoryview(data)
    calls: list[Call] = []
    for _ in range(10_000):
        if reading.ended(len(data)):
            return calls, reading
        calls += reading.take(view, len(data), at_most=at_most, steps_max=10, since=since)
    raise AssertionError("the segment does not end")


def survivors(made: Sample, *, first: int, last: int) -> list[Call]:
    """Say what must be read when the bytes from ``first`` to ``last`` are damaged."""
    places = sorted([*made.calls, *made.definitions])
    ends = dict(zip(places, [*places[1:], places[-1] + CALL_BYTES], strict=True))
    lost = {place for place in places if place <= last and ends[place] > first}
    lost_definitions = {made.definitions[place] for place in lost if place in made.definitions}
    numbers = {ONE: 1, OTHER: 2}
    left = []
    for place, call in made.calls.items():
        if place in lost or (SUBJECT, numbers[call.subject]) in lost_definitions:
            continue
        operation = "" if (TEXT, 1) in lost_definitions else call.operation
        address = "" if (TEXT, 2) in lost_definitions else call.client_ip
        scopes = "" if (TEXT, 3) in lost_definitions else call.scope_expression
        tags = () if (TEXT, 4) in lost_definitions else call.tags
        names = (call.verification_id, call.at_ms, call.subject, call.code, call.cost)
        left.append(Call(*names, operation, address, scopes, tags))
    return left


def test_what_was_written_is_read_back() -> None:
    """Every call comes back whole and in order, whatever the size of the steps; nothing counts as damaged."""
    made = sample()
    for at_most in (1, 2, 1_000):
        calls, reading = read(made.data, at_most=at_most)
        assert calls == list(made.calls.values())
        assert reading.damaged == 0
        assert reading.whole_until == max(made.calls) + CALL_BYTES


def test_reading_goes_on_from_a_place() -> None:
    """What was counted before is not handed out again, and the definitions before it still hold."""
    made = sample()
    for place in made.calls:
        assert read(made.data, since=place)[0] == [call for at, call in made.calls.items() if at >= place]


@given(st.builds(Subject, st.text(max_size=30), st.text(max_size=9), st.text(), st.text(), st.text(max_size=60)))
def test_every_subject_survives(subject: Subject) -> None:
    """Ids are whatever a customer calls his own: quotes, line ends and all scripts come back as they were."""
    made = Sample()
    made.define(SUBJECT, 1, encode_subject(subject))
    made.call(subject, 1, ordinal=1)
    assert read(made.data)[0] == list(made.calls.values())


def test_a_subject_that_cannot_be_is_refused() -> None:
    """A subject is never cut: it would be another's."""
    with pytest.raises(ValueError, match="too long"):
        encode_subject(Subject("", "", "", "", "x" * DEFINITION_PAYLOAD_MAX_BYTES))


def test_texts_are_what_every_store_takes() -> None:
    """A caller's text cannot stop the counting: no NUL, no half character, never longer than its room."""
    assert encode_text("a\0b") == "a\ufffdb".encode()
    assert encode_text("a\ud800b") == b"a?b"
    assert encode_text("ü" * 8_000) == b"\xc3\xbc" * 4_096
    assert encode_text("x" + "ü" * 8_000) == b"x" + b"\xc3\xbc" * 4_095
    assert encode_subject(Subject("\udfff", "", "", "", "")) == b'["?","","","",""]'


def test_a_header_says_whose_it_is() -> None:
    """Journal, number, process and time come back; a header with any bit changed is none, as is half a one."""
    encoded = HEADER.encode()
    assert len(encoded) == HEADER_BYTES
    assert decode_header(memoryview(encoded)) == HEADER
    for bit in range(62 * 8):
        damaged = bytearray(encoded)
        damaged[bit // 8] ^= 1 << bit % 8
        assert decode_header(memoryview(damaged)) is None
    assert decode_header(memoryview(encoded[:-1])) is None
    assert decode_header(memoryview(bytes(HEADER_BYTES))) is None


def test_every_bit_flipped() -> None:
    """One bit anywhere costs at most the record it is in, or the texts that record defined."""
    made = sample()
    for place in range(HEADER_BYTES, len(made.data)):
        for bit in range(8):
            damaged = bytearray(made.data)
            damaged[place] ^= 1 << bit
            calls, reading = read(damaged)
            assert calls == survivors(made, first=place, last=place), (place, bit)
            assert reading.damaged >= 1


@pytest.mark.parametrize("tail", (b"", bytes(64)), ids=("cut off", "zeroed"))
def test_every_tail_lost(tail: bytes) -> None:
    """Where the file ends, or goes on in zeroes, everything before that is there and nothing else."""
    made = sample()
    for length in range(HEADER_BYTES, len(made.data)):
        calls, _ = read(made.data[:length] + tail)
        expected = survivors(made, first=length, last=len(made.data))
        assert calls in (expected, survivors(made, first=length + 8, last=len(made.data))), length
        assert expected == calls[: len(expected)]


def test_every_span_zeroed() -> None:
    """A page that was never written costs what stood in it: the others are read, and it is told."""
    made = sample()
    filled = max(made.calls) + CALL_BYTES
    for first in range(HEADER_BYTES, filled, 8):
        for length in (8, 40, 72, 200):
            last = min(first + length, len(made.data)) - 1
            damaged = made.data[:first] + bytes(last + 1 - first) + made.data[last + 1 :]
            if damaged == made.data:  # a part of a record that is zero anyway
                continue
            calls, reading = read(damaged)
            assert calls == survivors(made, first=first, last=last), (first, last)
            if calls and made.calls[max(made.calls)] == calls[-1]:
                assert reading.damaged >= 1


@given(data=st.data())
def test_random_damage(data: st.DataObject) -> None:
    """Any bytes over any span: no crash, no invented record, and all that is outside the span."""
    made = sample()
    first = data.draw(st.integers(HEADER_BYTES, len(made.data) - 1))
    noise = data.draw(st.binary(min_size=1, max_size=len(made.data) - first))
    damaged = made.data[:first] + noise + made.data[first + len(noise) :]
    calls, _ = read(damaged)
    known = {call.verification_id for call in made.calls.values()}
    assert {call.verification_id for call in calls} <= known
    found = {call.verification_id for call in calls}
    assert found >= {it.verification_id for it in survivors(made, first=first, last=first + len(noise) - 1)}


@given(st.binary(max_size=2_000), st.integers(0, 50))
def test_garbage_holds_nothing(noise: bytes, seed: int) -> None:
    """Random bytes, also such as begin like records, are read to their end and give nothing."""
    chooser = random.Random(seed)
    leads = b"".join(
        chooser.randbytes(4) + bytes((chooser.choice((16, 40, 48, 41, 0)), 0, chooser.randint(0, 4), 0)) + noise[:16]
        for _ in range(10)
    )
    assert read(HEADER.encode() + noise)[0] == []
    assert read(HEADER.encode() + leads + noise)[0] == []


def test_records_are_good_nowhere_else() -> None:
    """A record moved within its segment, or read as another segment's or journal's, does not check out."""
    made = sample()
    shifted = made.data[:HEADER_BYTES] + bytes(8) + made.data[HEADER_BYTES:]
    assert read(shifted)[0] == []
    for salt in (salt_of(JOURNAL_ID, 8), salt_of(JOURNAL_ID[:-1] + "r", 7)):
        reading = Reading(salt, PROCESS)
        assert reading.take(memoryview(made.data), len(made.data), at_most=10, steps_max=1_000) == []


def test_one_look_is_bounded() -> None:
    """However damaged, a look takes the steps it was given and no more, and the next one goes on."""
    data = HEADER.encode() + b"\1" * 800
    reading = Reading(SALT, PROCESS)
    assert reading.take(memoryview(data), len(data), at_most=10, steps_max=20) == []
    assert reading.place == HEADER_BYTES + 160
    assert reading.damaged == 1
    assert not reading.ended(len(data))


def test_long_reserved_space_is_skipped() -> None:
    """Zeroes cost a step for 64 KiB, and a record behind them is found and the gap told."""
    made = sample()
    place = len(made.data) + 200_000
    tail = bytearray(200_000 + CALL_BYTES)
    made.data += tail
    write_call(memoryview(made.data), SALT, place, 1, 1, 0, 0, 0, 0, 5, 1_700_000_000_009, 9)
    reading = Reading(SALT, PROCESS)
    calls = reading.take(memoryview(made.data), len(made.data), at_most=100, steps_max=30)
    assert len(calls) == len(made.calls) + 1
    assert reading.damaged == 1


@pytest.mark.parametrize(
    ("kind", "payload"),
    (
        (SUBJECT, b"no json"),
        (SUBJECT, b"{}"),
        (SUBJECT, b'["a","b"]'),
        (SUBJECT, b'["a","b","c","d",5]'),
        (SUBJECT, b"\xff"),
        (SUBJECT, b""),
        (SUBJECT, b"[" * 4_000),
        (TEXT, b"\xff\xfe"),
    ),
)
def test_a_definition_without_sense_is_damage(kind: int, payload: bytes) -> None:
    """Bytes that check out and define nothing, as another version might write, are told and passed over."""
    made = Sample()
    made.define(kind, 3, payload)
    made.define(SUBJECT, 1, encode_subject(ONE))
    made.call(ONE, 1, ordinal=1)
    calls, reading = read(made.data)
    assert calls == list(made.calls.values())
    assert reading.damaged == 1


@pytest.mark.parametrize(
    ("subject", "at_ms", "ordinal"), ((2, 1, 1), (0, 1, 1), (1, 1 << 48, 1), (1, 1, 1 << 40)), ids=str
)
def test_a_call_without_sense_is_damage(subject: int, at_ms: int, ordinal: int) -> None:
    """A call of nobody, or of a time or ordinal that cannot be, is told and not handed on to a store."""
    made = Sample()
    made.define(SUBJECT, 1, encode_subject(ONE))
    place = len(made.data)
    made.data += bytes(CALL_BYTES)
    write_call(memoryview(made.data), SALT, place, 1, subject, 0, 0, 0, 0, 5, at_ms, ordinal)
    calls, reading = read(made.data)
    assert calls == []
    assert reading.damaged == 1
