"""The handler of ``ExportEvents``: the log up to a checkpoint that is made first, line by line, with every proof.

Proofs need the whole tree, so the hashes of all leaves are held while an export lasts, about 64 bytes of hashes for
each event; of the records a few dozen are at a time. The tree is built beside the event loop, and lines are written a
few at a turn, so that no other call waits for an export.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Protocol

from keystead.events.checkpoints import KeptCheckpoint
from keystead.events.export import End, Entry, Form, Head, JsonLines
from keystead.events.merkle import Tree
from keystead.events.model import Event, EventFilter
from keystead.events.ocsf import Ocsf
from keystead.events.ports import AuditReader
from keystead.events.spreadsheet import Spreadsheet
from keystead.gen.v1 import audit_pb2
from keystead.kernel.errors import UnavailableError, invalid
from keystead.keys.errors import PermissionDeniedError, RefusedFor
from keystead.keys.principal import Principal
from keystead.tenants.model import Environment, TenantScope
from keystead.transport.services import conversions

EVENTS_AT_ONCE = 64
"""Are read together."""

LINES_MAX = 16
"""Of one message, and of one turn: they take one or two milliseconds to write."""

MESSAGE_BYTES = 256 * 1024
"""A message that is as large is sent; only a single record makes one that is much larger."""

LEAVES_AT_ONCE = 10_000

_FORMS: dict[int, Form] = {
    int(audit_pb2.ExportEventsRequest.JSON_LINES): JsonLines(),
    int(audit_pb2.ExportEventsRequest.CSV): Spreadsheet(),
    int(audit_pb2.ExportEventsRequest.OCSF): Ocsf(),
}


class CheckpointMaker(Protocol):
    """Makes checkpoints on demand."""

    async def place(self) -> None:
        """Give events that wait for it their place, so that what was just done is in the log."""
        ...

    async def make(self, workspace_id: str) -> KeptCheckpoint:
        """Return a checkpoint of the log as it is now: the last one, if nothing came since."""
        ...


class ExportHandlers:
    """Serves what exports of ``keystead.v1.AuditService``."""

    def __init__(self, reader: AuditReader, checkpoints: CheckpointMaker) -> None:
        """Read events from ``reader`` up to where ``checkpoints`` says that the log is."""
        self._reader = reader
        self._checkpoints = checkpoints

    async def export_events(
        self, caller: Principal, request: audit_pb2.ExportEventsRequest
    ) -> AsyncGenerator[audit_pb2.ExportEventsResponse, None]:
        """Write the log: its first line, every record from the index asked for on, and the checkpoint."""
        walls = conversions.own_walls(caller)
        if caller.environment is not Environment.ALL:
            text = "An export holds both environments: use a management key for both."
            raise PermissionDeniedError(text, refused_for=RefusedFor.ENVIRONMENT)
        form = conversions.chosen("format", request.format, _FORMS) or JsonLines()
        await self._checkpoints.place()
        made = await self._checkpoints.make(walls.workspace_id)
        first = await self._first(walls.workspace_id, request.from_index, made.size)
        yield _message(form.write(Head(walls.workspace_id, first)))
        tree = await self._tree(walls.workspace_id, made.size)
        for start in range(first, made.size, EVENTS_AT_ONCE):
            events = await self._events(walls, start, min(start + EVENTS_AT_ONCE, made.size))
            for lines in _messages(form, tree, events):
                yield lines
                await asyncio.sleep(0)  # whoever reads without waiting lets nobody else have a turn
        yield _message(form.write(End(made.note)))

    async def _first(self, workspace_id: str, asked: int, size: int) -> int:
        """Return where to begin: with what was asked for, or the first event that is kept."""
        kept = await self._reader.first_index(workspace_id)
        if 0 < asked < kept:
            raise invalid("from_index", f"must be at least {kept}: the log was cut there")
        if asked > size:
            raise invalid("from_index", f"must be at most {size}, how many events there are")
        return max(asked, kept)

    async def _tree(self, workspace_id: str, size: int) -> Tree:
        leaves: list[bytes] = []
        while len(leaves) < size:
            limit = min(LEAVES_AT_ONCE, size - len(leaves))
            found = await self._reader.leaf_hashes(workspace_id, len(leaves), limit)
            if not found:
                raise _incomplete(len(leaves))
            leaves += found
        return await asyncio.to_thread(Tree, leaves)

    async def _events(self, walls: TenantScope, start: int, stop: int) -> Sequence[Event]:
        events = await self._reader.since(walls, EventFilter(), start - 1, stop - start)
        if [event.leaf_index for event in events] != list(range(start, stop)):
            raise _incomplete(start)
        return events


def _messages(form: Form, tree: Tree, events: Sequence[Event]) -> Iterator[audit_pb2.ExportEventsResponse]:
    lines: list[str] = []
    characters = 0
    for event in events:
        index = event.leaf_index or 0
        proof = tuple(tree.inclusion(index, tree.size))
        lines.append(form.write(Entry(index, event.record, event.private, proof)))
        characters += len(lines[-1])
        if characters >= MESSAGE_BYTES or len(lines) == LINES_MAX:
            yield _message("".join(lines))
            lines, characters = [], 0
    if lines:
        yield _message("".join(lines))


def _message(lines: str) -> audit_pb2.ExportEventsResponse:
    return audit_pb2.ExportEventsResponse(data=lines.encode())


def _incomplete(index: int) -> UnavailableError:
    return UnavailableError("The log cannot be read whole; try again.", internal=f"event {index} of the log is missing")
