"""What was refused becomes few facts: sums are exact, and whoever fails too often is told of once."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace

import pytest

from keystead.events.model import make_event
from keystead.events.refusals import (
    ALERTS_WITHIN_MS,
    MINUTE_MS,
    OTHER,
    STRETCH_MS,
    Failing,
    Failures,
    Refused,
    Refusing,
    Subject,
    Tally,
    alert,
    alerts_since_ms,
    owned,
    passed,
    told,
)
from keystead.kernel.change import Action, Actor, ActorType, Change, Group, Origin
from tests.fakes import FixedRandom

T0 = 1_700_000_400_000
FAILED = Refusing("wsp_1", "live", Action.AUTHENTICATION_FAILED, "REVOKED", "192.0.2.1", target="key_1")
CALLED = Refusing("wsp_1", "all", Action.CALL_REFUSED, "scope", "192.0.2.1", actor_id="key_2", method="CreateKey")
ONE = Refused(FAILED, T0, 3, T0 + 10, T0 + 20)


def tally_of(groups: Iterable[Refused], *, now_ms: int = T0) -> Tally:
    """Sum groups."""
    tally = Tally(now_ms=now_ms)
    tally.add(groups)
    return tally


def test_groups_that_are_alike_are_joined() -> None:
    """The sum, the first and the last time, whatever their order; another minute or another reason stays apart."""
    later = replace(ONE, minute_ms=T0 + MINUTE_MS)
    other = replace(ONE, refusing=FAILED._replace(reason="EXPIRED"))
    early = replace(ONE, count=4, first_at_ms=T0 + 5, last_at_ms=T0 + 6)
    assert list(tally_of((ONE, later, early, other)).groups.values()) == [
        replace(ONE, count=7, first_at_ms=T0 + 5),
        later,
        other,
    ]


def test_failures_are_held_against_addresses_and_keys() -> None:
    """By stretch, workspace and environment; a refused call, a sum of addresses and an old stretch are left out."""
    known = FAILED._replace(client_ip="")
    groups = (
        ONE,
        replace(ONE, minute_ms=T0 + MINUTE_MS, last_at_ms=T0 + MINUTE_MS),
        replace(ONE, refusing=FAILED._replace(target="", environment="test")),
        replace(ONE, refusing=FAILED._replace(client_ip=OTHER, target="")),
        replace(ONE, refusing=known, minute_ms=T0 + STRETCH_MS),
        replace(ONE, refusing=CALLED),
    )
    address = Subject(T0, "wsp_1", "live", Failing.ADDRESS, "192.0.2.1")
    key = Subject(T0, "wsp_1", "live", Failing.KEY, "key_1")
    expected = {
        address: Failures(6, T0 + MINUTE_MS),
        key: Failures(6, T0 + MINUTE_MS),
        address._replace(environment="test"): Failures(3, T0 + 20),
        key._replace(stretch_ms=T0 + STRETCH_MS): Failures(3, T0 + 20),
    }
    assert tally_of(groups).failures == expected
    last_ms = T0 + STRETCH_MS + ALERTS_WITHIN_MS
    assert alerts_since_ms(last_ms) == T0
    assert tally_of(groups, now_ms=last_ms).failures == expected
    assert tally_of(groups, now_ms=last_ms + 1).failures.keys() == {key._replace(stretch_ms=T0 + STRETCH_MS)}


@pytest.mark.parametrize(
    ("before", "added", "threshold", "expected"),
    ((0, 100, 100, False), (100, 1, 100, True), (0, 500, 100, True), (101, 5, 100, False), (0, 500, 0, False)),
)
def test_a_threshold_is_passed_once(before: int, added: int, threshold: int, *, expected: bool) -> None:
    """By the failures that take a subject from it to past it, and never when there is none."""
    assert passed(before, added, threshold) is expected


def test_what_a_group_becomes() -> None:
    """A caller who is known did it; nobody else is named, and nothing that is cached is touched."""
    change, origin = told(replace(ONE, refusing=FAILED._replace(presented="acme_live")))
    assert (change.action, change.target, change.reason, change.environment, change.touches) == (
        Action.AUTHENTICATION_FAILED,
        "key_1",
        "REVOKED",
        "live",
        (),
    )
    assert change.group == Group(3, T0 + 10, T0 + 20, "", "acme_live")
    assert origin == Origin(Actor(ActorType.ANONYMOUS, ""), client_ip="192.0.2.1")
    called, by_key = told(replace(ONE, refusing=CALLED))
    assert (called.target, called.group) == ("", Group(3, T0 + 10, T0 + 20, "CreateKey", ""))
    assert by_key.actor == Actor(ActorType.KEY, "key_2")


def test_what_fails_is_the_owners_of_the_key() -> None:
    """Whose key it is stands in the fact; nobody's stands for a key that is not known."""
    change, _ = told(ONE)
    assert owned(change, {"key_1": "cus_42", "key_2": "cus_43"}).owner_id == "cus_42"
    assert owned(change, {}).owner_id == ""


def test_an_alert_names_a_key_and_hides_an_address() -> None:
    """The key is the target; an address is private, so it is where the event came from and nowhere else."""
    subject = Subject(T0, "wsp_1", "live", Failing.KEY, "key_1")
    change, origin = alert(subject, Failures(101, T0), 100)
    assert (change.target, origin.client_ip, change.changes["failed_attempts"]) == ("key_1", "", (None, 101))
    change, origin = alert(subject._replace(kind=Failing.ADDRESS, name="::1"), Failures(101, T0), 100)
    assert (change.target, origin.client_ip, "::1" in str(change)) == ("", "::1", False)


def test_a_record_has_its_group_only_when_there_is_one() -> None:
    """What was done has the record that it always had; what was refused says so, and how often."""

    def record_of(change: Change, origin: Origin) -> dict[str, object]:
        made = make_event(change, origin, event_id="evt_1", occurred_at_ms=T0, random_bytes=FixedRandom().bytes)
        found: dict[str, object] = json.loads(made.record)
        return found

    change, origin = told(ONE)
    refused = record_of(change, origin)
    done = record_of(replace(change, group=None), origin)
    assert refused.keys() - done.keys() == {"group", "result"}
    assert refused["result"] == "refused"
    assert refused["group"] == {
        "count": 3,
        "first_at_ms": T0 + 10,
        "last_at_ms": T0 + 20,
        "method": "",
        "presented": "",
    }
