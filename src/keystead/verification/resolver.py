"""From a presented secret to the entry it stands for, or to the code that says why there is none.

Warm: one keyed digest and one look-up. Cold: shape, CRC and tag without any I/O (P2), then the store, the state, and
bcrypt once, with all callers of one secret sharing one flight. A fill notes the epoch before its read and is read again
when anything it depends on was touched meanwhile, so nothing that was revoked comes back (P3).
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from dataclasses import dataclass

from keystead.kernel.clock import Clock
from keystead.kernel.errors import UnavailableError
from keystead.keys import secret_format
from keystead.keys.errors import OverloadedError
from keystead.keys.ports import Keyring, Lane, SecretHasher
from keystead.keys.secret_format import SecretText
from keystead.verification.cache import Entry, EntryCache
from keystead.verification.errors import StaleError
from keystead.verification.freshness import Lease, Touches
from keystead.verification.model import Code, KeySnapshot, SecretSnapshot
from keystead.verification.ports import SnapshotStore

DIGEST_BYTES = 16
FLIGHTS_MAX = 10_000
REFUSED_KEPT = 65_536
_READS_MAX = 5

Resolved = Entry | Code


@dataclass(frozen=True, slots=True)
class Limits:
    """What a resolver may hold: cached secrets, and whether it serves what it cannot vouch for."""

    cached_secrets: int = 1_000_000
    serve_stale: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """What a resolver holds now: proven secrets, prefixes known to be refused, and searches under way.

    ``evicted`` counts the secrets that had to make room since the process started.
    """

    secrets: int
    refused: int
    flights: int
    evicted: int


@dataclass(frozen=True, slots=True)
class _Refused:
    """A prefix under one master that needs no store read for now: unknown (``entry`` None), or refused by its state."""

    entry: Entry | None
    epoch: int
    until_ms: int


class SecretResolver:
    """Proven secrets by digest, and the way there."""

    def __init__(
        self,
        *,
        store: SnapshotStore,
        keyring: Keyring,
        hasher: SecretHasher,
        touches: Touches,
        lease: Lease,
        clock: Clock,
        limits: Limits,
    ) -> None:
        """Read ``store`` (the primary), prove with ``hasher``, and believe what ``touches`` and ``lease`` allow."""
        self._store = store
        self._keyring = keyring
        self._hasher = hasher
        self._touches = touches
        self._lease = lease
        self._clock = clock
        self._serve_stale = limits.serve_stale
        self._cache = EntryCache(limits.cached_secrets)
        self._entries = self._cache.entries
        self._digest_state = hashlib.blake2b(key=secrets.token_bytes(32), digest_size=DIGEST_BYTES)
        self._refused: dict[tuple[str, str], _Refused] = {}
        self._flights: dict[bytes, asyncio.Task[Resolved]] = {}

    @property
    def held(self) -> Held:
        """How much is held."""
        return Held(len(self._entries), len(self._refused), len(self._flights), self._cache.evicted)

    def digest(self, text: str) -> bytes:
        """Return what ``text`` is known under in this process."""
        state = self._digest_state.copy()
        state.update(text.encode("utf-8", "surrogatepass"))
        return state.digest()

    def warm(self, digest: bytes) -> Entry | None:
        """Return the entry of a proven secret that is known to be good, or None: then ``cold`` must be asked."""
        entry = self._entries.get(digest)
        if entry is None or (entry.epoch != self._touches.epoch and not entry.good(self._touches)):
            return None
        if not self.vouches:
            raise StaleError
        return entry

    def confirm(self, entry: Entry) -> bool:
        """Say whether an entry found before a wait is good still; raise ``StaleError`` when nobody can tell."""
        if not self.vouches:
            raise StaleError
        return entry.epoch == self._touches.epoch or entry.good(self._touches)

    @property
    def vouches(self) -> bool:
        """Whether what is cached may be believed."""
        return self._serve_stale or self._lease.holds(self._clock.monotonic_ms())

    @property
    def serves_stale(self) -> bool:
        """Whether ``serve_stale`` was chosen."""
        return self._serve_stale

    @property
    def degraded(self) -> bool:
        """Whether what is cached is believed only because ``serve_stale`` was chosen."""
        return self._serve_stale and not self._lease.holds(self._clock.monotonic_ms())

    def parse(self, text: str) -> tuple[SecretText, str] | Code:
        """Take a secret apart and name the master key that tagged it; a forged one ends here, without any I/O (P2)."""
        parsed = secret_format.parse(text)
        if parsed is None:
            return Code.MALFORMED
        master_id = secret_format.matching_master(parsed, self._keyring.tags(parsed.signed))
        return Code.NOT_FOUND if master_id is None else (parsed, master_id)

    async def cold(self, digest: bytes, parsed: SecretText, master_id: str) -> Resolved:
        """Find, prove and keep the secret; callers of one share the work, and none can cancel it for another."""
        if not self.vouches:
            raise StaleError
        refused = self._known_refusal(parsed.prefix, master_id)
        if refused is not None:
            return refused
        flight = self._flights.get(digest)
        if flight is None or flight.done():  # what has landed may be older than a change made since
            if len(self._flights) >= FLIGHTS_MAX:
                lane = "flights"
                raise OverloadedError(lane, 1_000)
            flight = asyncio.create_task(self._fill(digest, parsed, master_id))
            self._flights[digest] = flight
            flight.add_done_callback(lambda done: self._landed(digest, done))
        return await asyncio.shield(flight)

    def _landed(self, digest: bytes, flight: asyncio.Task[Resolved]) -> None:
        if self._flights.get(digest) is flight:
            del self._flights[digest]
        if not flight.cancelled():
            flight.exception()  # marks it as seen when every caller has gone

    async def _fill(self, digest: bytes, parsed: SecretText, master_id: str) -> Resolved:
        known = self._entries.get(digest)
        proven = "" if known is None else known.secret_id
        for _ in range(_READS_MAX):
            epoch = self._touches.epoch
            key = await self._store.by_prefix(parsed.prefix)
            secret = _secret_of(key, parsed.prefix, master_id)
            if key is None or secret is None:
                if not self._touches.untouched(epoch, parsed.prefix):
                    continue
                self._remember_refusal(parsed.prefix, master_id, None, epoch)
                return Code.NOT_FOUND
            entry = Entry(key, secret, epoch)
            hopeless = secret.id != proven and self._hopeless(entry, master_id)
            if secret.id != proven and not hopeless:
                if not await self._prove(parsed, secret):
                    return Code.NOT_FOUND
                proven = secret.id
            if not entry.good(self._touches):
                continue
            if hopeless:
                self._remember_refusal(parsed.prefix, master_id, entry, epoch)
            else:
                self._cache.put(digest, entry)
            return entry
        text = "This key is being changed faster than it can be read; try again."
        raise UnavailableError(text, internal="fill overtaken by changes")

    def _hopeless(self, entry: Entry, master_id: str) -> bool:
        """Say whether the state alone refuses the key, so that bcrypt is not worth its time (if the tag is trusted)."""
        if self._keyring.distrusted(master_id):
            return False
        return not entry.usable or self._clock.now_ms() >= entry.ends_at_ms

    async def _prove(self, parsed: SecretText, secret: SecretSnapshot) -> bool:
        lane = Lane.IMPORT if self._keyring.distrusted(secret.master_id) else Lane.VERIFY
        material = self._keyring.pepper(secret.master_id, parsed.entropy.encode())
        return await self._hasher.check(material, secret.hash, lane)

    def _known_refusal(self, prefix: str, master_id: str) -> Resolved | None:
        refused = self._refused.get((prefix, master_id))
        if refused is None:
            return None
        if self._clock.monotonic_ms() < refused.until_ms:
            if refused.entry is None and self._touches.untouched(refused.epoch, prefix):
                return Code.NOT_FOUND
            entry = refused.entry
            if entry is not None and entry.good(self._touches) and self._hopeless(entry, master_id):
                return entry
        del self._refused[prefix, master_id]
        return None

    def _remember_refusal(self, prefix: str, master_id: str, entry: Entry | None, epoch: int) -> None:
        if len(self._refused) >= REFUSED_KEPT:
            self._refused.clear()
        self._refused[prefix, master_id] = _Refused(entry, epoch, self._clock.monotonic_ms() + self._lease.bound_ms)


def _secret_of(key: KeySnapshot | None, prefix: str, master_id: str) -> SecretSnapshot | None:
    """Pick the secret with ``prefix``, if the master key that tagged it is the one that the store names."""
    if key is None:
        return None
    for secret in key.secrets:
        if secret.prefix == prefix and secret.master_id == master_id:
            return secret
    return None
