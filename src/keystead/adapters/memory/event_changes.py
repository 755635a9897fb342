"""What becomes of events after they have happened, in memory."""

from __future__ import annotations

import json
from dataclasses import replace

from keystead.adapters.memory.store import Staging
from keystead.adapters.walls import Walls
from keystead.events.checkpoints import KeptCheckpoint
from keystead.events.model import Erasure, Event, canonical

_NOTHING = canonical({})


class MemoryEvents:
    """The ``EventRepository`` of one unit."""

    def __init__(self, staging: Staging, walls: Walls) -> None:
        """Change what ``walls`` admit."""
        self._staging = staging
        self._walls = walls

    async def erase(self, workspace_id: str, wanted: Erasure, *, limit: int) -> int:
        """Erase what is private beside at most ``limit`` events, the oldest first; return beside how many."""
        self._walls.demand(workspace_id)
        state = await self._staging.begin()
        own = [it for it in state.placed if it.workspace_id == workspace_id]
        found = [it for it in own if it.private != _NOTHING and _meant(it, wanted)]
        found.sort(key=lambda it: (it.occurred_at_ms, it.id))
        gone = {it.id for it in found[:limit]}
        state.placed[:] = [replace(it, private=_NOTHING) if it.id in gone else it for it in state.placed]
        return len(gone)

    async def cut(self, point: KeptCheckpoint, *, now_ms: int) -> int | None:  # noqa: ARG002 -- the port's, for the row
        """Declare gone what ``point`` covers, and return the first index until now; None when as much is gone."""
        self._walls.demand(point.workspace_id)
        cuts = (await self._staging.begin()).log_cuts
        before = cuts.get(point.workspace_id, 0)
        if before >= point.size:
            return None
        cuts[point.workspace_id] = point.size
        return before


def _meant(event: Event, wanted: Erasure) -> bool:
    address = json.loads(event.private).get("client_ip", {}).get("value", "")
    return (
        wanted.owner_id in {"", event.owner_id}
        and wanted.key_id in {"", event.target, event.actor_id}
        and wanted.client_ip in {"", address}
        and (wanted.before_ms is None or event.occurred_at_ms < wanted.before_ms)
    )
