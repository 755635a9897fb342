"""A process that spends a quota and a balance of credits as fast as it can, writing down each unit that it was given.

It ends when both are used up, or gives back what it holds on SIGTERM. Whatever was written before a kill stays written.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from keystead.adapters.sql.database import Database
from keystead.adapters.sql.units import SqlUnits
from keystead.kernel.clock import SystemClock
from keystead.kernel.errors import UnavailableError
from keystead.kernel.ids import IdSource
from keystead.kernel.limit import Credits, Period, Quota
from keystead.limits.blocks import Blocks
from keystead.limits.model import Allowance
from tests.allowances import allowance, spend


def allowances_of(workspace_id: str, limit: int) -> tuple[Allowance, Allowance]:
    """Return the quota and the credits that are spent, each of ``limit``."""
    return (
        allowance("calls", Quota(limit, Period.MONTH), workspace_id),
        allowance("credits", Credits(limit), workspace_id),
    )


async def spend_everything(blocks: Blocks, written: int, workspace_id: str, limit: int) -> None:
    """Take singly of each until nothing is left, writing ``q`` or ``c`` for every unit."""
    left = dict(zip(b"qc", allowances_of(workspace_id, limit), strict=True))
    while left:
        for letter, of in list(left.items()):
            try:
                if (await spend(blocks, of)).admitted:
                    os.write(written, bytes([letter]))
                else:
                    del left[letter]
            except UnavailableError:
                await asyncio.sleep(0.05)
        await asyncio.sleep(0)


async def main(url: str, path: str, workspace_id: str, limit: str) -> None:
    """Spend until nothing is left or somebody says to stop."""
    database, clock = Database.connect(url), SystemClock()
    blocks = Blocks(SqlUnits(database, clock=clock, ids=IdSource(clock)), clock)
    written = os.open(Path(path), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    spending = asyncio.create_task(spend_everything(blocks, written, workspace_id, int(limit)))
    stopped = asyncio.create_task(stopping.wait())
    await asyncio.wait([spending, stopped], return_when=asyncio.FIRST_COMPLETED)
    spending.cancel()
    await asyncio.wait([spending])
    await blocks.release_all()
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
