"""The keeper of checkpoints: a turn a minute, a little at a time, and one broken log in nobody's way."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from keystead.events.checkpointing import CONFIRM_EVERY_MS
from keystead.events.checkpoints import KeptCheckpoint
from keystead.kernel.errors import UnavailableError
from keystead.worker.checkpoints import TURN_EVERY_MS, CheckpointKeeper
from keystead.worker.walks import STEP_MS
from tests.unit.events.trees import Log

WORKSPACES = [f"wsp_{number}" for number in range(5)]


class Shop(Log):
    """A log of several workspaces; ``takes_ms`` is how long each checkpoint takes."""

    def __init__(self) -> None:
        """Give each workspace events."""
        super().__init__()
        self.takes_ms = 0
        self.away = False
        self.made: list[str] = []
        self.keeper = CheckpointKeeper(self.checkpointer, self.store, self.clock, batch=2)
        for workspace_id in WORKSPACES:
            self.news(workspace_id)
        keep = self.store.keep

        async def keep_slowly(made: KeptCheckpoint, *, after: KeptCheckpoint | None) -> bool:
            if self.away:
                raise UnavailableError("The database does not answer.")
            self.clock.advance(self.takes_ms)
            self.made.append(made.workspace_id)
            return await keep(made, after=after)

        self.store.keep = keep_slowly  # type: ignore[method-assign]  # to see and delay what is kept

    def news(self, workspace_id: str) -> None:
        """Let something happen."""
        self.leaves.add(3, workspace_id)
        self.memory.committed.leaves[workspace_id] = len(self.leaves.leaves[workspace_id])


async def test_every_workspace_with_news_gets_a_checkpoint() -> None:
    """Once a minute, in batches, and only those with news."""
    shop = Shop()
    await shop.keeper.turn()
    assert shop.made == WORKSPACES
    shop.news("wsp_3")
    shop.clock.advance(TURN_EVERY_MS - 1)
    await shop.keeper.turn()
    assert shop.made == WORKSPACES
    shop.clock.advance(1)
    await shop.keeper.turn()
    assert shop.made == [*WORKSPACES, "wsp_3"]
    latest = await shop.store.latest("wsp_3")
    assert latest is not None
    assert latest.size == 6


async def test_without_news_each_is_confirmed_once_an_hour() -> None:
    """Nothing new is signed, and the last is stated again."""
    shop = Shop()
    await shop.keeper.turn()
    shop.clock.advance(CONFIRM_EVERY_MS)
    await shop.keeper.turn()
    assert shop.made == WORKSPACES
    for workspace_id in WORKSPACES:
        latest = await shop.store.latest(workspace_id)
        assert latest is not None
        assert latest.made_at_ms == shop.clock.now_ms()


async def test_a_turn_goes_on_where_its_step_ended() -> None:
    """A step takes about two seconds, so a process can stop; the next goes on, though the minute is not over."""
    shop = Shop()
    shop.takes_ms = STEP_MS // 2
    for made in (2, 4, 5):
        await shop.keeper.turn()
        assert shop.made == WORKSPACES[:made]


async def test_an_outage_ends_the_turn_and_the_next_begins_anew() -> None:
    """What was left over waits for the next minute."""
    shop = Shop()
    shop.away = True
    with pytest.raises(UnavailableError):
        await shop.keeper.turn()
    shop.away = False
    await shop.keeper.turn()
    assert shop.made == []
    shop.clock.advance(TURN_EVERY_MS)
    await shop.keeper.turn()
    assert shop.made == WORKSPACES


async def test_a_rewritten_log_is_told_of_and_delays_nobody() -> None:
    """It gets no checkpoint and an error in the log at every turn; all others get theirs."""
    shop = Shop()
    await shop.keeper.turn()
    shop.leaves.leaves["wsp_1"][0] = bytes(32)
    for workspace_id in WORKSPACES:
        shop.news(workspace_id)
    for _ in range(2):
        shop.clock.advance(TURN_EVERY_MS)
        with capture_logs() as told:
            await shop.keeper.turn()
        assert [(line["log_level"], line["workspace_id"]) for line in told] == [("error", "wsp_1")]
    assert sorted(shop.made) == sorted([*WORKSPACES, *[it for it in WORKSPACES if it != "wsp_1"]])
