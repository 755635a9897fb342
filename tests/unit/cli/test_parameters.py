"""Durations, times and ids as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystead.cli import parameters
from keystead.cli.parameters import DURATION, Identifier, Metadata, Moment, duration_json, duration_ms
from keystead.cli.text import ago, harmless, moment_ms, span, until
from keystead.gen.v1 import keys_pb2
from tests.unit.cli.test_checking import well_formed

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1_000)


@pytest.mark.parametrize(
    ("text", "found"),
    (
        ("0s", 0),
        ("1500ms", 1_500),
        ("30m", 1_800_000),
        ("24h", 86_400_000),
        ("90d", 7_776_000_000),
        ("2w", 1_209_600_000),
        ("1h30m", 5_400_000),
        ("", None),
        ("30", None),
        ("h", None),
        ("-1h", None),
        ("1.5h", None),
        ("1h ", None),
        ("1y", None),
        ("٣h", None),
        ("999999999999w", None),
    ),
)
def test_durations_are_numbers_with_units(text: str, found: int | None) -> None:
    """What has no unit, or an unknown one, is refused rather than guessed at."""
    assert duration_ms(text) == found


@given(st.integers(0, 10**12))
def test_a_duration_survives_its_way_to_the_contract(total_ms: int) -> None:
    """The server reads from the JSON exactly what was meant, to the millisecond."""
    seconds = duration_json(total_ms).removesuffix("s")
    whole, _, fraction = seconds.partition(".")
    assert int(whole) * 1_000 + int((fraction + "000")[:3]) == total_ms


@pytest.mark.parametrize(
    ("text", "found"),
    (
        ("2027-01-31T12:00:00Z", "2027-01-31T12:00:00.000Z"),
        ("2027-01-31T12:00:00.5+02:00", "2027-01-31T10:00:00.500Z"),
        ("2027-01-31", "2027-01-31T00:00:00.000Z"),
    ),
)
def test_times_are_rfc_3339_or_a_day(text: str, found: str) -> None:
    """A time is the same moment wherever the command runs."""
    assert Moment().convert(text, None, None) == found


@pytest.mark.parametrize("text", ("2027-01-31T12:00:00", "2027-01-31 12:00", "tomorrow", "never", "20270131"))
def test_a_time_that_could_mean_two_things_is_refused(text: str) -> None:
    """A time without a zone, or beyond what there is, is a mistake; `never` is one where nothing can be never."""
    with pytest.raises(click.BadParameter, match="must be a time"):
        Moment().convert(text, None, None)


def test_relative_times_count_in_their_direction() -> None:
    """`--expires 90d` is in the future, `--unused-since 90d` in the past."""
    for moment, days in ((Moment(), 90), (Moment(past=True), -90)):
        found = datetime.fromisoformat(moment.convert("90d", None, None))
        assert abs(found - datetime.now(UTC) - timedelta(days=days)) < timedelta(minutes=1)


def test_a_moment_too_far_away_is_refused() -> None:
    """The calendar ends; a duration beyond it does not crash."""
    with pytest.raises(click.BadParameter):
        Moment().convert("3650000d", None, None)


def test_metadata_splits_at_the_first_equals_sign() -> None:
    """A value may hold equals signs, and be empty; a name may not."""
    assert Metadata().convert("a=b=c", None, None) == ("a", "b=c")
    assert Metadata().convert("a=", None, None) == ("a", "")
    for wrong in ("a", "=b"):
        with pytest.raises(click.BadParameter):
            Metadata().convert(wrong, None, None)


def test_a_secret_in_place_of_an_id_is_not_repeated() -> None:
    """The mistake is explained without writing the secret into one more place."""
    secret = well_formed()
    with pytest.raises(click.BadParameter) as caught:
        Identifier().convert(secret, None, None)
    assert secret not in caught.value.message


@pytest.mark.parametrize(
    ("name", "enum"),
    (("ENVIRONMENT", "Environment"), ("STATE", "State"), ("KIND", "Kind")),
)
def test_choices_are_the_contracts(name: str, enum: str) -> None:
    """A value that the contract gains is one that the command line offers."""
    offered = {str(choice).upper() for choice in getattr(parameters, name).choices}
    values = keys_pb2.Key.DESCRIPTOR.enum_types_by_name[enum].values
    assert offered == {value.name for value in values if value.number}


def test_a_duration_is_read_by_click() -> None:
    """A wrong duration is a usage error with examples; a default that is a number passes."""
    assert DURATION.convert(5, None, None) == 5
    with pytest.raises(click.BadParameter, match="24h"):
        DURATION.convert("soon", None, None)


@pytest.mark.parametrize(
    ("duration_ms_given", "parts", "said"),
    (
        (0, 1, "0 s"),
        (999, 1, "0 s"),
        (59_999, 1, "59 s"),
        (185_000, 1, "3 min"),
        (47 * 3_600_000, 1, "47 h"),
        (48 * 3_600_000, 1, "2 d"),
        (86_399_000, 2, "23 h 59 min"),
        (3_600_000, 2, "1 h"),
        (3_605_000, 2, "1 h"),
        (-5, 1, "0 s"),
    ),
)
def test_spans_are_said_as_people_do(duration_ms_given: int, parts: int, said: str) -> None:
    """One or two units, the largest ones, rounded down: nothing is said to last longer than it does."""
    assert span(duration_ms_given, parts=parts) == said


def test_moments_are_said_from_now() -> None:
    """The past is ago, the future is in, and what never happened is never."""
    assert ago("2026-11-24T11:56:55Z", now_ms=NOW_MS) == "3 min ago"
    assert ago("2026-11-24T11:59:59.500Z", now_ms=NOW_MS) == "just now"
    assert ago(None, now_ms=NOW_MS) == "never"
    assert until("2026-11-25T11:59:00.123456789Z", now_ms=NOW_MS, parts=2) == "in 23 h 59 min"
    assert until("2026-11-24T11:00:00Z", now_ms=NOW_MS) == "1 h ago"
    assert until(None, now_ms=NOW_MS, never="-") == "-"
    assert moment_ms("2026-11-24T12:00:00.001Z") == NOW_MS + 1


@given(st.text())
def test_nothing_harmful_is_left_of_any_text(text: str) -> None:
    """Whatever a server sends, a terminal gets nothing that it would obey; line ends may stay."""
    safe = harmless(text)
    assert len(safe) == len(text)
    assert not any(letter < " " or "\x7f" <= letter <= "\x9f" for letter in safe.replace("\n", ""))
