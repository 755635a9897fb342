"""``VerifyKey`` as JSON over HTTP/1.1, and ``/livez``, which shows what the HTTP server itself costs."""

from __future__ import annotations

from bench.installation import Installation
from bench.load import Load
from bench.plan import Plan
from bench.processes import Run, cores, measure, serving
from bench.report import Section
from bench.summary import median
from keystead.transport.dispatch import VERIFY_KEY

_CONNECTIONS = 16


def measure_http(plan: Plan, installation: Installation) -> Section:
    """Run both in turn."""
    section = Section(
        f"HTTP/1.1, warm, embedded, server on one core, {_CONNECTIONS} connections",
        ("request", "keys", "requests/s", "p50 ms", "p99 ms", "server µs"),
    )
    with serving("bench.server", installation.data_dir, core=cores()[0]) as server:
        port = server.ports["http"]
        verify = Load(
            port=port,
            path=VERIFY_KEY,
            wire="json",
            management_key=installation.management_key,
            population=installation.population,
            keys=installation.keys,
            access="zipf",
            connections=_CONNECTIONS,
            warm_up_s=plan.warm_up_s,
            seconds=plan.seconds,
        )
        live = Load(
            port=port,
            path="/livez",
            wire="get",
            asked="nothing",
            connections=_CONNECTIONS,
            warm_up_s=plan.warm_up_s,
            seconds=plan.seconds,
        )
        rounds = [(measure(verify, server), measure(live, server)) for _ in range(plan.rounds)]
    section.rows.append(_row("POST VerifyKey, JSON", installation.keys, [verified for verified, _ in rounds]))
    section.rows.append(_row("GET /livez", "-", [lived for _, lived in rounds]))
    return section


def _row(name: str, keys: int | str, runs: list[Run]) -> tuple[str | int | float, ...]:
    return (
        name,
        keys,
        median([run.result.per_second for run in runs]),
        median([run.result.p50_ms for run in runs]),
        median([run.result.p99_ms for run in runs]),
        median([run.server_us for run in runs]),
    )
