"""A verification without any transport: ``python -m bench.in_process POPULATION KEYS`` prints its figures.

What is timed is the warm decision alone, the way from request bytes to reply bytes, and both once more for keys that are
drawn uniformly. What is weighed is the process before and after its cache is filled, and, object by object, a sample of it.
"""

from __future__ import annotations

import gc
import json
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from bench.access import Access, draw
from bench.installation import MASTER_KEY
from bench.population import BRAND, Population
from bench.summary import median
from bench.warming import warm
from keystead.adapters.bcrypt.hashing import BcryptHasher, LaneSize
from keystead.adapters.cryptography.keyring import MasterKeyring
from keystead.gen.v1 import verification_pb2
from keystead.kernel.clock import SystemClock
from keystead.keys.model import KeyKind
from keystead.keys.ports import Lane
from keystead.keys.principal import Principal
from keystead.scopes.model import Grants
from keystead.tenants.model import Environment
from keystead.transport.binary import read_binary
from keystead.transport.services.verification import VerificationHandlers
from keystead.verification.freshness import Lease, Touches
from keystead.verification.last_use import LastUses
from keystead.verification.model import KeySnapshot
from keystead.verification.resolver import Limits, SecretResolver
from keystead.verification.service import VerificationService, VerifyRequest

_CALLS = 200_000
_PASSES = 5
_SAMPLE = 1_000
_NS_PER_US = 1_000
_WORKSPACE_ID = "wsp_01m3250v00fdhvj9rf9twb6cx8"
_SCOPE = "read:invoices"
_US_PER_KEY_SHARED = 0

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Figures:
    """Microseconds for each call, by access; bytes for each cached key, by the process's size and by its objects'."""

    keys: int
    decision_us: dict[str, float]
    bytes_to_bytes_us: dict[str, float]
    resident_bytes_per_key: float
    object_bytes_per_key: float


class NoStore:
    """A ``SnapshotStore`` that must not be asked: every key is in memory."""

    async def by_prefix(self, prefix: str) -> KeySnapshot | None:
        """Fail."""
        raise AssertionError(prefix)

    async def by_key(self, key_id: str) -> KeySnapshot | None:
        """Fail."""
        raise AssertionError(key_id)


class Warm:
    """A verification service with its cache full."""

    def __init__(self, population: Population, keys: int) -> None:
        """Fill it with the first ``keys`` keys."""
        clock = SystemClock()
        keyring = MasterKeyring([MASTER_KEY])
        touches = Touches()
        lease = Lease(600_000)
        lease.renew(clock.monotonic_ms())
        self.resolver = SecretResolver(
            store=NoStore(),
            keyring=keyring,
            hasher=BcryptHasher(cost=4, lanes={lane: LaneSize(1, 1) for lane in Lane}),
            touches=touches,
            lease=lease,
            clock=clock,
            limits=Limits(cached_secrets=keys),
        )
        gc.collect()
        before_bytes = resident_bytes()
        warm(
            self.resolver,
            touches,
            population,
            keys=keys,
            workspace_id=_WORKSPACE_ID,
            master_id=keyring.current_id,
        )
        gc.collect()
        self.resident_bytes_per_key = (resident_bytes() - before_bytes) / keys
        self.service = VerificationService(self.resolver, LastUses(), clock)
        self.handlers = VerificationHandlers(self.service)
        self.caller = Principal(
            key_id="key_bench",
            kind=KeyKind.MANAGEMENT,
            workspace_id=_WORKSPACE_ID,
            brand=BRAND,
            environment=Environment.ALL,
            grants=Grants(("*:*",)),
        )

    def decide(self, request: VerifyRequest) -> None:
        """Give one verdict."""
        if self.service.warm(self.caller, request) is None:
            raise AssertionError("the key is not warm")

    def answer(self, payload: bytes) -> None:
        """Turn a request's bytes into a reply's."""
        request: Any = read_binary(verification_pb2.VerifyKeyRequest, payload)
        if not self.handlers.verify_warm(self.caller, request):
            raise AssertionError("the key is not warm")

    def object_bytes_per_key(self) -> float:
        """Weigh a sample of the entries and what they alone refer to, with their share of the table."""
        entries = self.resolver._entries  # noqa: SLF001  # what is cached is nobody's business but the benchmark's
        digests = random.Random(1).sample(list(entries), min(_SAMPLE, len(entries)))
        private = sum(weigh(digest) + weigh_entry(entries[digest]) for digest in digests) / len(digests)
        return private + (sys.getsizeof(entries) + sys.getsizeof(list(entries))) / len(entries)


def weigh(item: object) -> int:
    """Return the bytes of one object, the collector's head included."""
    return sys.getsizeof(item)


def weigh_entry(entry: object) -> int:
    """Return the bytes of an entry and of the texts and tuples that no other entry shares."""
    names = ("key_id", "secret_id", "owner_id", "name", "last_used_at_ms", "metadata")
    parts = [getattr(entry, name) for name in names]
    pairs = [part for pair in getattr(entry, "metadata") for part in (pair, pair[1])]  # noqa: B009  # any entry's
    return weigh(entry) + sum(weigh(part) for part in (*parts, *pairs))


def resident_bytes() -> int:
    """Return how much memory this process has now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def time_each_us(work: Callable[[Item], None], items: Sequence[Item]) -> float:
    """Return how long ``work`` takes with one of ``items``: the median of five passes over all of them."""
    passes = []
    for _ in range(_PASSES):
        begun_ns = time.perf_counter_ns()
        for item in items:
            work(item)
        passes.append((time.perf_counter_ns() - begun_ns) / len(items) / _NS_PER_US)
    return median(passes)


def measure(path: Path, keys: int, calls: int) -> Figures:
    """Fill a cache and time it."""
    accesses: tuple[Access, ...] = ("zipf", "uniform")
    decision_us, bytes_to_bytes_us = {}, {}
    with Population.open(path) as population:
        filled = Warm(population, keys)
        gc.freeze()
        gc.disable()
        for access in accesses:
            texts = [population.text(place) for place in draw(access, keys=keys, count=calls, seed=2)]
            requests = [VerifyRequest(text, Environment.LIVE, _SCOPE) for text in texts]
            decision_us[access] = time_each_us(filled.decide, requests)
            payloads = [
                verification_pb2.VerifyKeyRequest(key=text, environment=1, scope_expression=_SCOPE).SerializeToString()
                for text in texts
            ]
            bytes_to_bytes_us[access] = time_each_us(filled.answer, payloads)
    return Figures(keys, decision_us, bytes_to_bytes_us, filled.resident_bytes_per_key, filled.object_bytes_per_key())


def main() -> int:
    """Measure what the command line says."""
    path, keys, calls = sys.argv[1:]
    print(json.dumps(asdict(measure(Path(path), int(keys), int(calls)))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
