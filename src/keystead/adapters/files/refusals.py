"""Refused calls and failed authentications, counted by the minute in a file of their own until they are told.

Of the groups of a minute three in four are for failed authentications and the rest for refused calls, so a flood of
forged keys does not crowd out who was refused a change.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from keystead.adapters.files.counters import GROUPS_PER_MINUTE_MAX, SLOTS_PER_PAGE, MappedCounters
from keystead.adapters.files.journal import WhenFull
from keystead.adapters.files.slots import Group, Layout
from keystead.events.refusals import OTHER, RefusalPage, Refused, Refusing
from keystead.kernel.change import Action

_ACTIONS = {1: Action.AUTHENTICATION_FAILED, 2: Action.CALL_REFUSED}
_NUMBERS = {action: number for number, action in _ACTIONS.items()}
_CALLS_MAX = GROUPS_PER_MINUTE_MAX // 4


def _summed(group: Group) -> Group:
    """Keep apart whose it is, in which environment, what was refused and why."""
    return group[0], group[1], "", "", "", "", group[6], group[7], OTHER


def _item(group: Group, minute_ms: int, count: int, first_at_ms: int, last_at_ms: int) -> Refused:
    workspace_id, environment, actor_id, target, method, presented, reason, number, client_ip = group
    refusing = Refusing(
        workspace_id=workspace_id,
        environment=environment,
        action=_ACTIONS.get(number, Action.CALL_REFUSED),
        actor_id=actor_id,
        target=target,
        method=method,
        presented=presented,
        reason=reason,
        client_ip=client_ip,
    )
    return Refused(refusing, minute_ms, count, first_at_ms, last_at_ms)


def _page(journal_id: str, number: int, groups: Sequence[Refused]) -> RefusalPage:
    return RefusalPage(journal_id, number, tuple(groups))


# A group: workspace, environment, actor, target, method, brand and environment of the text, reason, action, address.
REFUSALS = Layout(
    "refusals",
    text_bytes=(40, 8, 32, 32, 48, 24, 24, 40),
    summed=_summed,
    item=_item,
    page=_page,
    allowances={
        _NUMBERS[Action.AUTHENTICATION_FAILED]: GROUPS_PER_MINUTE_MAX - _CALLS_MAX,
        _NUMBERS[Action.CALL_REFUSED]: _CALLS_MAX,
    },
)


class MappedRefusals(MappedCounters[Refused, RefusalPage]):
    """The ``RefusalCounters`` of this process. ``dropped`` counts the refusals that were answered and not counted."""

    def __init__(
        self,
        folder: Path,
        *,
        journal_id: str,
        slots_per_page: int = SLOTS_PER_PAGE,
        when_full: WhenFull = "refuse",
    ) -> None:
        """Begin the counters of a new journal in its ``folder``; raise ``OSError`` when there is no room for them."""
        super().__init__(folder, REFUSALS, journal_id=journal_id, slots_per_page=slots_per_page, when_full=when_full)

    def room_for(self, refusing: Refusing, at_ms: int) -> int:
        """Return where to ``add`` one before anything is awaited; -1 when it is dropped.

        Raises ``JournalFullError`` when there is no room, and it must not be lost.
        """
        group = (
            refusing.workspace_id,
            refusing.environment,
            refusing.actor_id,
            refusing.target,
            refusing.method,
            refusing.presented,
            refusing.reason,
            _NUMBERS[refusing.action],
            refusing.client_ip,
        )
        return self.place_of(group, at_ms)
