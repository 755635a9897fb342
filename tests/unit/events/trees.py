"""A log of nothing but leaves, in the hands of a test, and what signs it."""

from __future__ import annotations

from collections.abc import Sequence

from keystead.adapters.memory.checkpoints import MemoryAuditKeys, MemoryCheckpoints
from keystead.adapters.memory.store import MemoryStore
from keystead.events.checkpointing import Checkpointer
from keystead.events.checkpoints import KeptCheckpoint, grown
from keystead.events.merkle import leaf_hash
from keystead.events.model import Cursor, Event
from keystead.events.notes import Signer
from keystead.events.ports import LogPage, SealedKey
from keystead.events.signing_key import CheckpointKey
from keystead.kernel.walls import TenantScope
from tests.fakes import ManualClock
from tests.unit.events.signers import FakeSigner

WORKSPACE = "wsp_1"


class Leafy:
    """The ``Leaves`` of workspaces; ``reads`` counts the questions for hashes."""

    def __init__(self) -> None:
        """Begin empty."""
        self.leaves: dict[str, list[bytes]] = {}
        self.reads = 0

    def add(self, count: int, workspace_id: str = WORKSPACE) -> None:
        """Add leaves."""
        own = self.leaves.setdefault(workspace_id, [])
        own += [leaf_hash(f"{workspace_id}/{number}".encode()) for number in range(len(own), len(own) + count)]

    async def head(self, workspace_id: str) -> tuple[int, bytes]:
        """Return how many leaves there are, and the frontier."""
        own = self.leaves.get(workspace_id, [])
        return len(own), grown(b"", 0, own)

    async def leaf_hashes(self, workspace_id: str, start: int, limit: int) -> Sequence[bytes]:
        """Return leaves."""
        self.reads += 1
        return self.leaves[workspace_id][start : start + limit]

    async def find(self, scope: TenantScope, event_id: str) -> Event | None:
        """Hold no events."""
        raise LookupError(scope, event_id)


class Sequencer:
    """An ``EventLog`` with so many events that wait for their place."""

    def __init__(self, waiting: int) -> None:
        """Begin with ``waiting`` events."""
        self.waiting = waiting
        self.placings = 0

    async def head(self) -> Cursor:
        """Begin at the beginning."""
        return Cursor()

    async def poll(self, cursor: Cursor, *, limit: int) -> LogPage:
        """Tell nothing."""
        raise LookupError(cursor, limit)

    async def place(self, *, limit: int) -> int:
        """Place some."""
        self.placings += 1
        placed = min(limit, self.waiting)
        self.waiting -= placed
        return placed


class FakeVault:
    """A ``KeyVault`` of one key."""

    def make(self) -> SealedKey:
        """Return the key."""
        return SealedKey(FakeSigner(b"log").public_key, "master", b"")

    def open(self, key: SealedKey) -> Signer:
        """Return what signs."""
        assert key == self.make()
        return FakeSigner(b"log")

    def sealed_anew(self, key: SealedKey) -> None:
        """Know no newer master."""
        assert key == self.make()


class Log:
    """Leaves, the checkpoints of them, and a checkpointer."""

    def __init__(self, waiting: int = 0) -> None:
        """Begin empty."""
        self.clock = ManualClock()
        self.leaves = Leafy()
        self.sequencer = Sequencer(waiting)
        self.memory = MemoryStore()
        self.store = MemoryCheckpoints(self.memory)
        key = CheckpointKey(MemoryAuditKeys(self.memory), FakeVault())
        self.checkpointer = Checkpointer(
            log=self.sequencer, leaves=self.leaves, store=self.store, key=key, clock=self.clock
        )

    async def make(self) -> KeptCheckpoint:
        """Make a checkpoint."""
        return await self.checkpointer.make(WORKSPACE)
