"""Counts what stands on its input in ClickHouse's engine, as a process of its own: there can be one engine in each.

``python -m tests.past_calls DATA_DIR`` reads a pickled stretch; no server may run in the directory meanwhile.
"""

from __future__ import annotations

import asyncio
import pickle
import sys
from pathlib import Path

from keystead.adapters.clickhouse.connection import ClickHouse, Target
from keystead.adapters.clickhouse.usage import ClickHouseUsage
from keystead.usage.model import Stretch


async def main(data_dir: str, stretch: Stretch) -> None:
    """Count as a journal that is at its end, so that nobody waits for more of it."""
    clickhouse = ClickHouse(Target.parse("chdb:", Path(data_dir)))
    store = ClickHouseUsage(clickhouse)
    await store.register(stretch.journal_id, at_ms=stretch.seen_at_ms or 0)
    assert await store.count(stretch)
    await store.close(stretch.journal_id)
    await clickhouse.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], pickle.load(sys.stdin.buffer)))  # noqa: S301 -- a test's own
