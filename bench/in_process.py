"""A verification without any transport: ``python -m bench.in_process POPULATION KEYS CALLS`` prints its figures.

What is timed is the warm decision alone, the way from a request's bytes to its reply's, and the whole way of a batch of
calls as the native engine hands it over, header and authentication included. What is weighed is the process before and
after its cache is filled, and, object by object, a sample of it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from bench.access import Access, draw
from bench.installation import keyring, settings_for
from bench.population import BRAND, Population
from bench.summary import median
from bench.warming import object_bytes_per_key, warm, warm_management_key
from keystead.adapters.files.attempts import MappedAttempts
from keystead.adapters.files.journal import MappedJournal, OwnSegment
from keystead.adapters.files.refusals import MappedRefusals
from keystead.adapters.sql.database import Database
from keystead.bootstrap.core import Core
from keystead.bootstrap.counting import Counting
from keystead.gen.v1 import keys_pb2, verification_pb2
from keystead.kernel.clock import SystemClock
from keystead.kernel.ids import SequentialIds
from keystead.keys.model import KeyKind
from keystead.keys.principal import Principal
from keystead.scopes.model import Grants
from keystead.tenants.model import Environment
from keystead.transport.binary import read_binary
from keystead.transport.calls import Call
from keystead.transport.contract import service_methods
from keystead.transport.dispatch import VERIFY_KEY
from keystead.transport.grpc.answering import Answering
from keystead.transport.measuring import CallMeasures, MeasuredDispatcher
from keystead.transport.services.verification import VerificationHandlers, asked_of
from keystead.verification.service import VerifyRequest

_PASSES = 5
_BATCH_CALLS = 16
_NS_PER_US = 1_000
_PATIENCE_MS = 3_600_000
_WORKSPACE_ID = "wsp_01m3250v00fdhvj9rf9twb6cx8"
_SCOPE = "read:invoices"
_ADDRESS = "127.0.0.1:50000"

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Figures:
    """Microseconds for each call, by access; bytes for each cached key, by the process's size and by its objects'."""

    keys: int
    decision_us: dict[str, float]
    bytes_to_bytes_us: dict[str, float]
    whole_us: dict[str, float]
    parts_us: dict[str, float]
    """Where a whole call's time goes, with Zipf access; what is not timed by itself is a difference of two that are."""
    resident_bytes_per_key: float
    object_bytes_per_key: float


class ForgetfulJournal(MappedJournal):
    """A journal that nobody counts: what was written goes when its segment is full."""

    def _begin(self, segment: OwnSegment) -> None:
        super()._begin(segment)
        for number in [it for it in self.segments if it < segment.number]:
            self.discard(number)


class WarmCore:
    """The domains on their adapters as a server has them, with the cache full and never a need for the database."""

    def __init__(self, population: Population, keys: int) -> None:
        """Fill it with the first ``keys`` keys."""
        settings = settings_for(Path("unused"), keys).model_copy(update={"staleness_bound_ms": _PATIENCE_MS})
        ids = SequentialIds("ver")
        self._folder = tempfile.TemporaryDirectory(prefix="keystead-bench-")
        journal = ForgetfulJournal.open(Path(self._folder.name), process=ids.process, clock=SystemClock())
        folder, journal_id = journal.directory.path, journal.journal_id
        attempts, refusals = (
            MappedAttempts(folder, journal_id=journal_id),
            MappedRefusals(folder, journal_id=journal_id),
        )
        database = Database.connect("sqlite:///unused")
        counting = Counting(journal, attempts, refusals)
        self.core = Core(settings, keyring(), database, counting=counting, verification_ids=ids)
        self.core.lease.renew(self.core.clock.monotonic_ms())
        self._authorization = warm_management_key(self.core, workspace_id=_WORKSPACE_ID)
        self.resident_bytes_per_key = self._fill(population, keys)
        self.dispatcher = self.core.dispatcher()
        self._measured = MeasuredDispatcher(
            self.dispatcher,
            self.dispatcher.verify_now,
            self.dispatcher.stream,
            CallMeasures(),
            batch_method="VerifyKey",
        )
        self._handlers = VerificationHandlers(self.core.verification)
        self._answering = Answering(self.dispatcher, message_maximum_bytes=1 << 20, concurrent_calls_maximum=1_000)
        self._method = next(method for method in service_methods() if method.path == VERIFY_KEY)
        self._caller = Principal(
            key_id="key_bench",
            kind=KeyKind.MANAGEMENT,
            workspace_id=_WORKSPACE_ID,
            brand=BRAND,
            environment=Environment.ALL,
            grants=Grants(("*:*",)),
        )
        # The wire's headers as the native engine gives them.
        self._metadata = (
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "keystead-bench/1"),
            ("authorization", self._authorization),
        )
        asyncio.run(self._authenticate(population.text(0)))

    def _fill(self, population: Population, keys: int) -> float:
        gc.collect()
        before_bytes = resident_bytes()
        warm(self.core, population, keys=keys, workspace_id=_WORKSPACE_ID)
        gc.collect()
        return (resident_bytes() - before_bytes) / keys

    async def _authenticate(self, text: str) -> None:
        await self.dispatcher(self._call(), read_binary(verification_pb2.VerifyKeyRequest, request_bytes(text)))

    def _call(self) -> Call:
        return Call(self._method, self._metadata, _ADDRESS, None)

    def check(self, request: Any) -> None:
        """Check a request's fields."""
        asked_of(self._caller, request)

    def decide(self, request: VerifyRequest) -> None:
        """Give one verdict."""
        if self.core.verification.begin(self._caller, request) is None:
            raise AssertionError("the key is not warm")

    def answer(self, payload: bytes) -> None:
        """Turn a request's bytes into a reply's."""
        if not self._handlers.verify_now(self._caller, message_of(payload)):
            raise AssertionError("the key is not warm")

    def answer_together(self, payloads: Sequence[bytes]) -> None:
        """Do all that is done in Python for calls that came in together, but for telling the engine the replies."""
        calls = [(self._call(), payload) for payload in payloads]
        for answer in self._answering.answer_together(self._measured.verify_now, calls):
            if not isinstance(answer, bytes):
                raise AssertionError("the key is not warm")  # noqa: TRY004 -- nobody gave a wrong type


def request_bytes(text: str) -> bytes:
    """Ask about ``text`` as the load generator does."""
    return verification_pb2.VerifyKeyRequest(
        key=text, environment=keys_pb2.Key.LIVE, scope_expression=_SCOPE
    ).SerializeToString()


def message_of(payload: bytes) -> Any:
    """Read a request."""
    return read_binary(verification_pb2.VerifyKeyRequest, payload)


def resident_bytes() -> int:
    """Return how much memory this process has now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def time_each_us(work: Callable[[Item], None], items: Sequence[Item]) -> float:
    """Return ``work``'s processor time with an item: the median of five passes, each over a fifth of them."""
    size = len(items) // _PASSES
    passes = []
    for number in range(_PASSES):
        batch = items[number * size : (number + 1) * size]
        begun_ns = time.process_time_ns()
        for item in batch:
            work(item)
        passes.append((time.process_time_ns() - begun_ns) / size / _NS_PER_US)
    return median(passes)


def measure(path: Path, keys: int, calls: int) -> Figures:
    """Fill a cache and time it."""
    accesses: tuple[Access, ...] = ("zipf", "uniform")
    decision_us: dict[str, float] = {}
    bytes_to_bytes_us: dict[str, float] = {}
    whole_us: dict[str, float] = {}
    parts_us: dict[str, float] = {}
    with Population.open(path) as population:
        filled = WarmCore(population, keys)
        gc.freeze()
        gc.disable()
        for seed, access in enumerate(accesses):
            texts = [population.text(place) for place in draw(access, keys=keys, count=calls, seed=seed)]
            requests = [VerifyRequest(text, Environment.LIVE, _SCOPE) for text in texts]
            decision_us[access] = time_each_us(filled.decide, requests)
            payloads = [request_bytes(text) for text in texts]
            bytes_to_bytes_us[access] = time_each_us(filled.answer, payloads)
            batches = [payloads[start : start + _BATCH_CALLS] for start in range(0, len(payloads), _BATCH_CALLS)]
            whole_us[access] = time_each_us(filled.answer_together, batches) / _BATCH_CALLS
            if access == "zipf":
                parts_us = _parts_us(filled, payloads)
                parts_us["the verdict"] = decision_us[access]
                parts_us["writing the reply"] = bytes_to_bytes_us[access] - sum(parts_us.values())
                parts_us["who calls, and the batch"] = whole_us[access] - bytes_to_bytes_us[access]
    weight_bytes = object_bytes_per_key(filled.core)
    return Figures(
        keys, decision_us, bytes_to_bytes_us, whole_us, parts_us, filled.resident_bytes_per_key, weight_bytes
    )


def _parts_us(filled: WarmCore, payloads: Sequence[bytes]) -> dict[str, float]:
    requests = [message_of(payload) for payload in payloads]
    return {
        "reading the message": time_each_us(message_of, payloads),
        "checking its fields": time_each_us(filled.check, requests),
    }


def main() -> int:
    """Measure what the command line says."""
    path, keys, calls = sys.argv[1:]
    print(json.dumps(asdict(measure(Path(path), int(keys), int(calls)))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
