"""Small fakes of the ports, hand-made, so that tests decide what time it is, what is random and who waits for what."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from keystead.events.refusals import Refusing
from keystead.idempotency.errors import SlotTakenError
from keystead.idempotency.model import ReplySlot, StoredReply
from keystead.keys.errors import OverloadedError
from keystead.keys.model import KeyKind, KeyState
from keystead.keys.ports import Lane
from keystead.keys.secret_format import ALPHABET
from keystead.tenants.model import Environment, Owner
from keystead.tenants.ports import OwnerRepository
from keystead.usage.errors import JournalFullError
from keystead.usage.model import CODES
from keystead.usage.ports import Counted
from keystead.verification.model import KeySnapshot, SecretSnapshot

BEGINNING_MS = 1_700_000_000_000
WORKSPACE_ID = "wsp_00000000000000000000000001"
OTHER_WORKSPACE_ID = "wsp_00000000000000000000000002"


class ManualClock:
    """Time that passes only when it is told to; the wall can be set, the monotonic clock only goes on."""

    def __init__(self, now_ms: int = BEGINNING_MS) -> None:
        """Begin at ``now_ms``."""
        self._now_ms = now_ms
        self._monotonic_ms = 5_000_000

    def now_ms(self) -> int:
        """Return milliseconds since the Unix epoch."""
        return self._now_ms

    def monotonic_ms(self) -> int:
        """Return milliseconds that never go back."""
        return self._monotonic_ms

    def monotonic_ns(self) -> int:
        """Return nanoseconds that never go back."""
        return self._monotonic_ms * 1_000_000

    def advance(self, milliseconds: int) -> int:
        """Let time pass, and return the moment."""
        self._now_ms += milliseconds
        self._monotonic_ms += milliseconds
        return self._now_ms

    def set_wall(self, now_ms: int) -> None:
        """Set the wall clock, as an administrator or a time server does."""
        self._now_ms = now_ms


class FixedRandom:
    """Randomness that is the same in every run."""

    def __init__(self, seed: int = 0) -> None:
        """Begin from ``seed``."""
        self._random = random.Random(seed)

    def bits(self, count: int) -> int:
        """Return ``count`` random bits."""
        return self._random.getrandbits(count)

    def bytes(self, count: int) -> bytes:
        """Return ``count`` random bytes."""
        return self._random.randbytes(count)

    def text(self, characters: int) -> str:
        """Return ``characters`` of base62."""
        return "".join(self._random.choices(ALPHABET, k=characters))


class Gate:
    """A place where whoever comes by waits while it is closed; it begins open."""

    def __init__(self) -> None:
        """Begin open, with nobody here yet."""
        self._open = asyncio.Event()
        self._open.set()
        self._arrival = asyncio.Event()
        self.passed = 0

    def close(self) -> None:
        """Make everyone wait who comes from now on."""
        self._open.clear()
        self._arrival.clear()

    def open(self) -> None:
        """Let everyone go on."""
        self._open.set()

    async def arrival(self) -> None:
        """Wait until somebody stands before the closed gate."""
        await asyncio.wait_for(self._arrival.wait(), timeout=5)

    async def pass_by(self) -> None:
        """Go on, or wait until the gate opens."""
        self._arrival.set()
        await self._open.wait()
        self.passed += 1


class FakeHasher:
    """A hash that costs nothing, counted; ``gate`` holds its callers up, ``full`` lanes shed."""

    def __init__(self) -> None:
        """Begin with nothing counted and every lane free."""
        self.gate = Gate()
        self.hashes = 0
        self.checks: Counter[Lane] = Counter()
        self.full: set[Lane] = set()

    @property
    def calls(self) -> int:
        """How often there was something to hash or to check."""
        return self.hashes + self.checks.total()

    async def hash(self, material: bytes) -> str:
        """Hash ``material``."""
        self._enter(Lane.MINT)
        self.hashes += 1
        await self.gate.pass_by()
        return self.of(material)

    async def check(self, material: bytes, stored: str, lane: Lane) -> bool:
        """Compare ``material`` with ``stored``."""
        self._enter(lane)
        self.checks[lane] += 1
        await self.gate.pass_by()
        return stored == self.of(material)

    @staticmethod
    def of(material: bytes) -> str:
        """Return what ``hash`` makes of ``material``, as long as bcrypt's."""
        return hashlib.sha256(material).hexdigest()[:60]

    def _enter(self, lane: Lane) -> None:
        if lane in self.full:
            raise OverloadedError(lane, 100)


class FakeSnapshotStore:
    """Keys by prefix, reads counted. A read takes its snapshot first and then waits at ``gate``: a slow reply.

    ``after_read`` is called before the reply goes out.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self.keys: dict[str, KeySnapshot] = {}
        self.gate = Gate()
        self.reads = 0
        self.failure: Exception | None = None
        self.after_read: Callable[[], object] = lambda: None

    def put(self, key: KeySnapshot) -> None:
        """Hold ``key`` under its id, in the place of what was there."""
        self.keys[key.key_id] = key

    def change(self, key_id: str, **changes: object) -> None:
        """Change fields of a key."""
        self.keys[key_id] = replace(self.keys[key_id], **changes)  # type: ignore[arg-type] # the tests name real fields

    async def by_prefix(self, prefix: str) -> KeySnapshot | None:
        """Return the key with ``prefix``."""
        return await self._answer(
            next((key for key in self.keys.values() if any(prefix == secret.prefix for secret in key.secrets)), None)
        )

    async def by_key(self, key_id: str) -> KeySnapshot | None:
        """Return the key with ``key_id``."""
        return await self._answer(self.keys.get(key_id))

    async def _answer(self, found: KeySnapshot | None) -> KeySnapshot | None:
        self.reads += 1
        await self.gate.pass_by()
        self.after_read()
        if self.failure is not None:
            raise self.failure
        return found


class FakeReplies:
    """Remembered replies in a dictionary."""

    def __init__(self) -> None:
        """Begin empty."""
        self.kept: dict[ReplySlot, StoredReply] = {}

    async def get(self, slot: ReplySlot) -> StoredReply | None:
        """Return what is kept in ``slot``."""
        return self.kept.get(slot)

    async def add(self, reply: StoredReply) -> None:
        """Keep a reply."""
        if reply.slot in self.kept:
            raise SlotTakenError
        self.kept[reply.slot] = reply


class LateOwners:
    """Owners of a unit whose first look came a moment too early: somebody makes the owner right after it."""

    def __init__(self, inner: OwnerRepository) -> None:
        """Stand before ``inner``."""
        self._inner = inner
        self._looks = 0

    async def get(self, owner_id: str, *, lock: bool = False) -> Owner | None:
        """Miss the owner the first time."""
        self._looks += 1
        return None if self._looks == 1 else await self._inner.get(owner_id, lock=lock)

    def __getattr__(self, name: str) -> object:
        """Do everything else as it is."""
        return getattr(self._inner, name)


@dataclass
class FakeSource:
    """Where a call comes from."""

    peer: str = ""


def snapshot_of(*secrets: SecretSnapshot, key_id: str = "key_1") -> KeySnapshot:
    """Make an active customer's key in ``live``; change what a test is about with ``dataclasses.replace``."""
    return KeySnapshot(
        key_id=key_id,
        workspace_id=WORKSPACE_ID,
        workspace_brand="acme",
        environment=Environment.LIVE,
        kind=KeyKind.CUSTOMER,
        owner_id="customer-1",
        owner_suspended=False,
        name="Key",
        state=KeyState.ACTIVE,
        scopes=("read:invoices",),
        metadata={"team": "billing"},
        allowed_ips=(),
        expires_at_ms=None,
        secrets=secrets,
    )


class FakeJournal:
    """Keeps verdicts in a list; ``full`` refuses them."""

    def __init__(self) -> None:
        """Begin with none."""
        self.written: list[tuple[str, str, str, str]] = []
        self.labels: list[tuple[int, str, str]] = []
        self.full = False

    def append(
        self,
        counted: Counted,
        *,
        code: int,
        at_ms: int,
        ordinal: int,
        cost: int,
        operation: str,
        client_ip: str,
        scope_expression: str,
        tags: str,
    ) -> None:
        """Keep (key, code, operation, address), and the rest in ``labels``."""
        assert (at_ms > 0, ordinal >= 0) == (True, True)
        if self.full:
            raise JournalFullError
        self.written.append((counted.key_id, CODES[code], operation, client_ip))
        self.labels.append((cost, scope_expression, tags))


class FakeAttempts:
    """Keeps verdicts about no key in a list; ``full`` refuses them."""

    def __init__(self) -> None:
        """Begin with none."""
        self.counted: list[tuple[str, str, str, str, str, str]] = []
        self.full = False

    def count(
        self,
        *,
        workspace_id: str,
        environment: str,
        brand: str,
        secret_environment: str,
        code: int,
        client_ip: str,
        at_ms: int,
    ) -> None:
        """Keep (workspace, environment, brand, environment in the text, code, address)."""
        assert at_ms > 0
        if self.full:
            raise JournalFullError
        self.counted.append((workspace_id, environment, brand, secret_environment, CODES[code], client_ip))


class FakeRefusals:
    """Keeps what is refused in a list; ``full`` refuses to."""

    def __init__(self) -> None:
        """Begin with none."""
        self.counted: list[Refusing] = []
        self.full = False
        self._places: list[Refusing] = []

    def room_for(self, refusing: Refusing, at_ms: int) -> int:
        """Return the next place."""
        assert at_ms > 0
        if self.full:
            raise JournalFullError
        self._places.append(refusing)
        return len(self._places) - 1

    def add(self, place: int, at_ms: int) -> None:
        """Keep what the place is for."""
        assert at_ms > 0
        if place >= 0:
            self.counted.append(self._places[place])
