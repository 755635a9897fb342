"""``VerifyKey`` over gRPC, warm, on one core, against calls that do nothing: on our own engine, and on grpcio's.

Everything takes its turn in each round, so that what else the machine does hits all alike, and medians are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench import h2load
from bench.access import Access
from bench.installation import Installation
from bench.load import Load
from bench.plan import Plan
from bench.processes import Run, Server, cores, measure, serving
from bench.report import Check, Section
from bench.summary import median, ratio
from keystead.transport.dispatch import VERIFY_KEY

_BOUND_TIMES = 5.0
_WISHED_TIMES = 10.0
_BOUND_RATIO = 1.3
_ALONE = "VerifyKey of one key"


@dataclass(frozen=True, slots=True)
class Subject:
    """What takes its turn: a load on a server, by our own load generator or by h2load."""

    name: str
    keys: int
    access: str
    load: Load
    server: Server
    by_h2load: bool = False
    runs: list[Run] = field(default_factory=list)

    def run(self, seed: int, folder: Path) -> None:
        """Take one turn."""
        load = replace(self.load, seed=seed)
        self.runs.append(h2load.measure(load, self.server, folder) if self.by_h2load else measure(load, self.server))

    def of(self, figure: Callable[[Run], float]) -> float:
        """Return the median of a figure over the rounds."""
        return median([figure(run) for run in self.runs])

    @property
    def per_second(self) -> float:
        """Calls a second."""
        return self.of(lambda run: run.result.per_second)

    @property
    def server_us(self) -> float:
        """Processor time of the server for each call."""
        return self.of(lambda run: run.server_us)


def measure_grpc(plan: Plan, installations: list[Installation]) -> Section:
    """Run every subject in every round."""
    core = cores()[0]
    with ExitStack() as stack:
        empty = stack.enter_context(serving("bench.empty", "native", core=core))
        grpcio = stack.enter_context(serving("bench.empty", "grpcio", core=core))
        subjects = [
            Subject("empty, native engine", 0, "", _nothing(plan, empty), empty),
            Subject("empty, grpcio", 0, "", _nothing(plan, grpcio), grpcio),
        ]
        for installation in installations:
            server = stack.enter_context(serving("bench.server", installation.data_dir, core=core))
            subjects += _verifying(plan, installation, server)
        for number in range(plan.rounds):
            for subject in subjects:
                subject.run(number + 1, plan.folder)
    return _section(subjects)


def _nothing(plan: Plan, server: Server) -> Load:
    return Load(
        port=server.ports["empty"], path=VERIFY_KEY, asked="nothing", warm_up_s=plan.warm_up_s, seconds=plan.seconds
    )


def _verifying(plan: Plan, installation: Installation, server: Server) -> list[Subject]:
    def subject(name: str, listener: str, access: Access) -> Subject:
        load = Load(
            port=server.ports[listener],
            path=VERIFY_KEY,
            management_key=installation.management_key,
            population=installation.population,
            keys=installation.keys,
            access=access,
            warm_up_s=plan.warm_up_s,
            seconds=plan.seconds,
        )
        return Subject(name, installation.keys, access, load, server)

    subjects = [subject("VerifyKey, native engine", "native", access) for access in ("zipf", "uniform")]
    if installation.keys == plan.sizes[0]:
        subjects.append(subject("VerifyKey, grpcio", "grpcio", "zipf"))
        alone = subject(_ALONE, "native", "first")
        if h2load.available():
            subjects += [alone, replace(alone, name=f"{_ALONE}, by h2load", by_h2load=True, runs=[])]
    return subjects


def _section(subjects: list[Subject]) -> Section:
    columns = ("call", "keys", "access", "calls/s", "times", "(µs)", "p50 ms", "p99 ms", "server µs", "client busy")
    section = Section("gRPC, warm, embedded, server on one core, 8 connections x 16 calls", columns)
    base = next(one for one in subjects if one.name == "empty, grpcio")
    for one in subjects:
        section.rows.append(
            (
                one.name,
                one.keys or "",
                one.access,
                one.per_second,
                ratio(one.per_second, base.per_second),
                ratio(base.server_us, one.server_us),
                one.of(lambda run: run.result.p50_ms) or "",
                one.of(lambda run: run.result.p99_ms) or "",
                one.server_us,
                one.of(lambda run: run.result.busy) or "",
            )
        )
    section.notes.extend(
        [
            "times: calls/s in units of grpcio's empty call; (µs): the same by the processor time of the server",
            "server µs: that processor time, saving last uses included; client busy: its share of its own core",
        ]
    )
    zipf = [one for one in subjects if one.name == "VerifyKey, native engine" and one.access == "zipf"]
    section.checks.extend(_checks(zipf, base.per_second))
    return section


def _checks(zipf: list[Subject], base: float) -> list[Check]:
    few, many = zipf[0], zipf[-1]
    worst = min(one.per_second for one in zipf)
    promise = "VerifyKey over gRPC against grpcio's empty call (Zipf, worst size)"
    name = f"VerifyKey over gRPC at {many.keys:,} keys against {few.keys:,} (Zipf, calls/s)"
    return [
        Check(
            promise,
            ratio(worst, base),
            _BOUND_TIMES,
            "x",
            at_most=False,
        ),
        Check("… the wish", ratio(worst, base), _WISHED_TIMES, "x", at_most=False),
        Check(name, ratio(few.per_second, many.per_second), _BOUND_RATIO, "x", at_most=True),
    ]
