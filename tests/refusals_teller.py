"""A process that stages refusals and tells them, as fast as it can, until it is killed.

``python -m tests.refusals_teller URL JOURNAL`` stages page after page of one journal, each of groups whose counts add
up to ``REFUSALS_PER_PAGE``, and tells what waits in small steps. It prints a line when it begins.
"""

from __future__ import annotations

import asyncio
import sys
from random import Random

from keystead.adapters.sql.database import Database
from keystead.adapters.sql.refusals import SqlRefusals
from keystead.events.refusals import MINUTE_MS, RefusalPage, Refused, Refusing
from keystead.kernel.change import Action
from keystead.kernel.clock import SystemClock
from keystead.kernel.ids import IdSource

REFUSALS_PER_PAGE = 60
_GROUPS = 12
_PAGES_MAX = 1_000_000
_STEP = 5
_ENDLESS_MS = 1 << 60


def page_of(journal_id: str, number: int, random: Random, *, now_ms: int) -> RefusalPage:
    """Make a page of groups that other processes have as well."""
    minute_ms = now_ms - now_ms % MINUTE_MS
    groups = []
    for _ in range(_GROUPS):
        address = f"192.0.2.{random.randrange(20)}"
        refusing = Refusing("wsp_1", "live", Action.AUTHENTICATION_FAILED, "NOT_FOUND", address)
        groups.append(Refused(refusing, minute_ms, REFUSALS_PER_PAGE // _GROUPS, minute_ms, minute_ms + 1))
    return RefusalPage(journal_id, number, tuple(groups))


async def _main(url: str, journal_id: str) -> None:
    clock, random = SystemClock(), Random(journal_id)
    store = SqlRefusals(Database.connect(url), clock=clock, ids=IdSource(clock), threshold=1_000)
    sys.stdout.write("begun\n")
    sys.stdout.flush()

    async def stage() -> None:
        for number in range(1, _PAGES_MAX):
            await store.stage(page_of(journal_id, number, random, now_ms=clock.now_ms()))

    async def tell() -> None:
        for _ in range(_PAGES_MAX):
            await store.tell(before_ms=_ENDLESS_MS, limit=_STEP)
            await asyncio.sleep(0)

    await asyncio.gather(stage(), tell())


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2]))
