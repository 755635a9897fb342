"""Meters and the arithmetic of telling usage: ids that never differ, differences that add up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystead.usage.meters import (
    WINDOW_MS,
    Counting,
    Gap,
    KnownMeter,
    Meter,
    changed_meanings,
    closed_to,
    entries_of,
    event_id,
    parse_meters,
    window_of,
)

T0 = 1_700_006_400_000
GAP = Gap("wsp_1", "live", "customer-1", T0, used=10, told=4, revisions=2)


def test_meters_are_read_as_documented() -> None:
    """Each form of the setting means what its page says, blanks and colons in texts included."""
    text = "api_calls=calls, api_cost=cost,report_calls=calls:operation:reports.create , eu_calls=calls:tag:region:eu"
    assert parse_meters(text) == (
        Meter("api_calls", Counting.CALLS),
        Meter("api_cost", Counting.COST),
        Meter("report_calls", Counting.CALLS, operation="reports.create"),
        Meter("eu_calls", Counting.CALLS, tag="region:eu"),
    )
    assert [meter.meaning for meter in parse_meters(text)] == [
        "calls",
        "cost",
        "calls:operation:reports.create",
        "calls:tag:region:eu",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    (
        ("", "must name 1 to 20"),
        (" , ", "must name 1 to 20"),
        (",".join(f"m{number}=calls" for number in range(21)), "not 21"),
        ("a=calls, a=cost", "twice"),
        ("calls", "NAME=calls or NAME=cost"),
        ("a=", "NAME=calls or NAME=cost"),
        ("a=errors", "NAME=calls or NAME=cost"),
        ("a=calls:tag", "NAME=calls or NAME=cost"),
        ("a=calls:tag:", "may be narrowed"),
        ("a=calls:key:x", "may be narrowed"),
        ("A=calls", "is no name"),
        ("1=calls", "is no name"),
        ("a" * 64 + "=calls", "is no name"),
    ),
)
def test_what_is_no_meter_is_refused_with_what_to_write(text: str, said: str) -> None:
    """A slip in the setting stops the start with a sentence; nothing is billed by guessing."""
    with pytest.raises(ValueError, match=said):
        parse_meters(text)


@given(st.integers(0, 2**44))
def test_a_window_holds_its_moments(at_ms: int) -> None:
    """Every moment is in one window, and a window is closed when usage is complete up to its end."""
    begins_at_ms = window_of(at_ms)
    assert begins_at_ms <= at_ms < begins_at_ms + WINDOW_MS
    assert closed_to(begins_at_ms + WINDOW_MS - 1) == begins_at_ms
    assert closed_to(begins_at_ms + WINDOW_MS) == begins_at_ms + WINDOW_MS


def test_ids_stay_the_same_for_ever() -> None:
    """What was sent by an older version is known by the same id to a newer one: a change here would bill it again."""
    place = {"workspace_id": "wsp_1", "environment": "live", "owner_id": "customer-1", "meter": "api_calls"}
    assert event_id(**place, begins_at_ms=T0, revision=0) == "use_78afbad6b05c7ca7cb4d5e2479dfc8f633c70a65"


def test_no_two_places_share_an_id() -> None:
    """Whatever differs, the id differs, also when texts only look alike when put together."""
    ids = {
        event_id(
            workspace_id=workspace, environment=environment, owner_id=owner, meter=meter, begins_at_ms=at, revision=n
        )
        for workspace in ("wsp_1", "wsp_11")
        for environment in ("live", "test")
        for owner in ("1", "11", "1live")
        for meter in ("a", "a1")
        for at in (T0, T0 + WINDOW_MS)
        for n in (0, 1)
    }
    assert len(ids) == 2 * 2 * 3 * 2 * 2 * 2


def test_an_event_is_the_difference() -> None:
    """An event tells what its window lacks, with the next revision and the id of its place."""
    (entry,) = entries_of("api_calls", [GAP])
    assert (entry.value, entry.revision, entry.meter, entry.begins_at_ms) == (6, 2, "api_calls", T0)
    assert entry.id == event_id(
        workspace_id="wsp_1", environment="live", owner_id="customer-1", meter="api_calls", begins_at_ms=T0, revision=2
    )


@given(st.lists(st.integers(1, 1_000_000), min_size=1, max_size=20))
def test_revisions_add_up(arrivals: list[int]) -> None:
    """However usage of a window comes in, the sum of its events is what was used, and no revision is told twice."""
    used = told = 0
    seen = []
    for revision, more in enumerate(arrivals):
        used += more
        (entry,) = entries_of("m", [Gap("w", "live", "o", T0, used, told, revision)])
        told += entry.value
        seen.append(entry.id)
    assert told == used == sum(arrivals)
    assert len(set(seen)) == len(arrivals)


def test_a_name_keeps_its_meaning() -> None:
    """A meter that was told as something else is named; the same one, and a new one, are fine."""
    known = [KnownMeter("a", "calls", 0, 0), KnownMeter("b", "cost:tag:x", 0, 0)]
    assert changed_meanings(parse_meters("a=calls, b=cost:tag:x, c=cost"), known) == []
    assert changed_meanings(parse_meters("a=calls, b=cost"), known) == [
        "b was told as cost:tag:x before; give cost another name"
    ]
    assert known[1].meter == Meter("b", Counting.COST, tag="x")
