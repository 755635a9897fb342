"""What this process knows of secrets it has seen: bounded, and keyed by a digest that only this process can compute.

An entry stands for one proven secret and holds everything a verdict needs, so a warm verification is one dictionary
look-up. Eviction samples five entries and drops the one that was used longest ago.
"""

from __future__ import annotations

import random
from functools import lru_cache

from keystead.kernel.change import owner_subject
from keystead.kernel.limit import Limit
from keystead.keys.addresses import Network, parse_range
from keystead.keys.model import KeyKind, KeyState
from keystead.limits.compiling import Subject, compiled, merged
from keystead.limits.model import Metered
from keystead.scopes.model import Grants
from keystead.tenants.model import Environment
from keystead.verification.freshness import Touches
from keystead.verification.model import KeySnapshot, SecretSnapshot

NEVER_MS = 1 << 62
_SAMPLE = 5


class Entry:
    """One secret of one key. ``epoch`` is the last in which it was known to be good; times are milliseconds."""

    __slots__ = (
        "brand",
        "dirty",
        "ends_at_ms",
        "environment",
        "epoch",
        "expires_at_ms",
        "grants",
        "journal_mark",
        "key_id",
        "kind",
        "last_used_at_ms",
        "metadata_names",
        "metadata_values",
        "metered",
        "name",
        "networks",
        "owner_id",
        "owner_suspended",
        "plan_ends_at_ms",
        "plan_id",
        "retires_at_ms",
        "secret_id",
        "state",
        "usable",
        "workspace_id",
    )

    def __init__(self, key: KeySnapshot, secret: SecretSnapshot, epoch: int) -> None:
        """Take from a snapshot whose read began in ``epoch``."""
        self.key_id = key.key_id
        self.secret_id = secret.id
        self.workspace_id = _shared(key.workspace_id)
        self.brand = _shared(key.workspace_brand)
        self.environment = key.environment
        self.kind = key.kind
        self.owner_id = key.owner_id
        self.owner_suspended = key.owner_suspended
        self.name = key.name
        self.state = key.state
        self.grants = compiled_grants(key.scopes)
        self.metadata_names = _shared_names(tuple(key.metadata))
        self.metadata_values = tuple(key.metadata.values())
        self.networks = compiled_networks(key.allowed_ips)
        self.expires_at_ms = key.expires_at_ms
        self.retires_at_ms = secret.retires_at_ms
        self.ends_at_ms = min(
            NEVER_MS if self.expires_at_ms is None else self.expires_at_ms,
            NEVER_MS if self.retires_at_ms is None else self.retires_at_ms,
        )
        self.plan_id = _shared(key.plan_id)
        self.plan_ends_at_ms = NEVER_MS if key.plan_ends_at_ms is None else key.plan_ends_at_ms
        self.metered = metered_of(key)
        self.usable = key.state is KeyState.ACTIVE and not key.owner_suspended
        self.epoch = epoch
        self.journal_mark = 0
        self.last_used_at_ms = 0
        self.dirty = False

    @property
    def own(self) -> bool:
        """Whether the key calls Keystead itself, and so is nobody else's to verify."""
        return self.kind is KeyKind.MANAGEMENT or self.kind is KeyKind.OPERATOR

    def good(self, touches: Touches) -> bool:
        """Say whether nothing the entry depends on was touched since it was read, and note it when so."""
        subjects = (self.key_id, owner_subject(self.workspace_id, self.owner_id), self.workspace_id, self.plan_id)
        if not touches.untouched(self.epoch, *subjects):
            return False
        self.epoch = touches.epoch
        return True


class EntryCache:
    """Entries by digest, at most ``capacity``; ``evicted`` counts those that had to make room."""

    def __init__(self, capacity: int, *, chooser: random.Random | None = None) -> None:
        """Keep at most ``capacity`` entries; ``chooser`` draws the eviction samples (nothing secret)."""
        self._capacity = capacity
        self._chooser = chooser or random.Random()  # noqa: S311 -- eviction, not secrecy
        self._digests: list[bytes] = []
        self.entries: dict[bytes, Entry] = {}
        self.evicted = 0

    def put(self, digest: bytes, entry: Entry) -> None:
        """Keep ``entry``, in the place of an older one when the cache is full."""
        entries = self.entries
        if digest in entries:
            entries[digest] = entry
            return
        if len(entries) < self._capacity:
            self._digests.append(digest)
        else:
            self._digests[self._evict()] = digest
        entries[digest] = entry

    def _evict(self) -> int:
        places = [self._chooser.randrange(len(self._digests)) for _ in range(_SAMPLE)]
        place = min(places, key=lambda index: self.entries[self._digests[index]].last_used_at_ms)
        del self.entries[self._digests[place]]
        self.evicted += 1
        return place


def limits_of(key: KeySnapshot) -> tuple[Limit, ...]:
    """Return the limits that apply to a key, in order."""
    if key.plan_limits or key.owner_limits or key.key_limits:
        return merged(key.plan_limits, key.owner_limits, key.key_limits)
    return ()


def metered_of(key: KeySnapshot) -> Metered | None:
    """Prepare the limits that apply to a key; None when there are none."""
    limits = limits_of(key)
    if not limits:
        return None
    subject = Subject(key.workspace_id, key.environment, key.owner_id, key.key_id)
    metered = compiled(limits, subject, key.on_limiter_outage)
    return metered if metered.order else None


@lru_cache(maxsize=65_536)
def compiled_grants(scopes: tuple[str, ...]) -> Grants:
    """Compile scopes once for all keys that were granted the same."""
    return Grants(scopes)


@lru_cache(maxsize=16_384)
def compiled_networks(ranges: tuple[str, ...]) -> tuple[Network, ...]:
    """Read address ranges once for all keys that were given the same; raise ``ValueError`` when one cannot be read.

    They were checked when they were stored, so one that cannot be read is damage, and leaving it out could open a key
    to every address.
    """
    networks = [parse_range(text) for text in ranges]
    readable = tuple([network for network in networks if network is not None])
    if len(readable) != len(ranges):
        message = "a stored address range cannot be read"
        raise ValueError(message)
    return readable


@lru_cache(maxsize=65_536)
def _shared(text: str) -> str:
    return text


@lru_cache(maxsize=65_536)
def _shared_names(names: tuple[str, ...]) -> tuple[str, ...]:
    return names


def environment_named(text: str) -> Environment:
    """Return the environment that a secret names."""
    return Environment.LIVE if text == "live" else Environment.TEST
