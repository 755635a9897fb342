"""What was refused, counted in groups: a flood becomes few records whose counts add up to all of it.

A group is everything that tells two refusals apart but the moment. Groups of a minute that is over become one event
each, with their count, first and last time; whose failures pass a threshold is told at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

from keystead.kernel.change import Action, Actor, ActorType, Change, Group, Origin

MINUTE_MS = 60_000
STRETCH_MS = 600_000
"""Failures are held against the threshold in stretches of so long, which begin at multiples of it."""

ALERTS_WITHIN_MS = 3_600_000
"""A stretch that ended so long ago raises no alert any more: what comes that late is told as events alone."""

OTHER = "other"
"""Stands for the address where groups had no room of their own and were summed: so many came in that minute."""


class Refusing(NamedTuple):
    """What is refused alike. ``action`` is a refused call or a failed authentication; what is not known is empty.

    ``actor_id`` is the caller's key, when it is proven, and ``target`` the key that failed, likewise; ``presented`` is
    what a text in our form begins with, brand and environment, and ``reason`` a short stable word.
    """

    workspace_id: str
    environment: str
    action: Action
    reason: str
    client_ip: str = ""
    actor_id: str = ""
    target: str = ""
    method: str = ""
    presented: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """How often something was refused in the minute that began at ``minute_ms``, and when first and last."""

    refusing: Refusing
    minute_ms: int
    count: int
    first_at_ms: int
    last_at_ms: int

    def joined(self, other: Refused) -> Refused:
        """Add the same group's numbers."""
        return Refused(
            self.refusing,
            self.minute_ms,
            self.count + other.count,
            min(self.first_at_ms, other.first_at_ms),
            max(self.last_at_ms, other.last_at_ms),
        )


@dataclass(frozen=True, slots=True)
class RefusalPage:
    """What one process counted between two turns: fixed before it is sent, and staged once.

    ``number`` is 1 for a journal's first page, and greater for each that follows.
    """

    journal_id: str
    number: int
    groups: tuple[Refused, ...]


class Failing(StrEnum):
    """Whose failures are held against the threshold."""

    ADDRESS = "address"
    KEY = "key"


class Subject(NamedTuple):
    """An address or a key that fails, in one stretch of ten minutes."""

    stretch_ms: int
    workspace_id: str
    environment: str
    kind: Failing
    name: str


@dataclass(frozen=True, slots=True)
class Failures:
    """How often a subject failed, and when last."""

    count: int
    last_at_ms: int


class Tally:
    """What a page adds: each group and minute once, and the failures that are held against somebody.

    Those of stretches that nobody is told of any more are not. It is filled in steps, for a page may be long.
    """

    def __init__(self, *, now_ms: int) -> None:
        """Begin with nothing."""
        self.groups: dict[tuple[Refusing, int], Refused] = {}
        self.failures: dict[Subject, Failures] = {}
        self._since_ms = alerts_since_ms(now_ms)

    def add(self, groups: Iterable[Refused]) -> None:
        """Sum ``groups`` too."""
        for it in groups:
            place = (it.refusing, it.minute_ms)
            before = self.groups.get(place)
            self.groups[place] = it if before is None else before.joined(it)
            stretch_ms = it.minute_ms - it.minute_ms % STRETCH_MS
            if it.refusing.action is Action.AUTHENTICATION_FAILED and stretch_ms >= self._since_ms:
                self._hold_against(it, stretch_ms)

    def _hold_against(self, it: Refused, stretch_ms: int) -> None:
        refusing = it.refusing
        address = "" if refusing.client_ip == OTHER else refusing.client_ip
        for kind, name in ((Failing.ADDRESS, address), (Failing.KEY, refusing.target)):
            if name:
                subject = Subject(stretch_ms, refusing.workspace_id, refusing.environment, kind, name)
                before = self.failures.get(subject)
                if before is None:
                    self.failures[subject] = Failures(it.count, it.last_at_ms)
                else:
                    last_at_ms = max(before.last_at_ms, it.last_at_ms)
                    self.failures[subject] = Failures(before.count + it.count, last_at_ms)


def alerts_since_ms(now_ms: int) -> int:
    """Return when the first stretch began that alerts are still raised for."""
    return now_ms - STRETCH_MS - ALERTS_WITHIN_MS


def passed(before: int, added: int, threshold: int) -> bool:
    """Say whether ``added`` failures took a subject past the threshold: true once, however they come in; 0 is never."""
    return threshold > 0 and before <= threshold < before + added


def told(refused: Refused) -> tuple[Change, Origin]:
    """Make the fact that a group becomes, and who it is from."""
    it = refused.refusing
    change = Change(
        it.workspace_id,
        it.action,
        it.target,
        touches=(),
        environment=it.environment,
        reason=it.reason,
        group=Group(refused.count, refused.first_at_ms, refused.last_at_ms, it.method, it.presented),
    )
    actor = Actor(ActorType.KEY, it.actor_id) if it.actor_id else Actor(ActorType.ANONYMOUS, "")
    return change, Origin(actor, client_ip=it.client_ip)


def owned(change: Change, owners: Mapping[str, str]) -> Change:
    """Say whose key a fact is about, by ``owners`` of key ids, so that it is found and erased with them."""
    return replace(change, owner_id=owners.get(change.target, ""))


def alert(subject: Subject, failures: Failures, threshold: int) -> tuple[Change, Origin]:
    """Make the fact that a subject passed the threshold; an address is private, so it stands in the origin."""
    changes: Mapping[str, tuple[object, object]] = {
        "subject": (None, str(subject.kind)),
        "failed_attempts": (None, failures.count),
        "threshold": (None, threshold),
        "period_begins_at_ms": (None, subject.stretch_ms),
    }
    by_address = subject.kind is Failing.ADDRESS
    change = Change(
        subject.workspace_id,
        Action.AUTHENTICATION_THRESHOLD_REACHED,
        "" if by_address else subject.name,
        touches=(),
        environment=subject.environment,
        changes=changes,
    )
    return change, Origin(Actor(ActorType.SYSTEM, "refusals"), client_ip=subject.name if by_address else "")
