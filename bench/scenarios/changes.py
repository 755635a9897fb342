"""How many keys can be made and rotated in a second, on either database: bcrypt, a transaction and an event each."""

from __future__ import annotations

from dataclasses import replace

from bench.installation import Installation, install
from bench.load import Load
from bench.plan import Plan
from bench.processes import measure, serving
from bench.report import Cell, Section
from tests.services import PrivatePostgres

_KEYS = 1_000
_CONNECTIONS = 8
_AT_ONCE = 2
_CREATE = "/keystead.v1.KeyService/CreateKey"
_ROTATE = "/keystead.v1.KeyService/RotateKey"


def measure_changes(plan: Plan) -> Section:
    """Make and rotate on SQLite, then on a PostgreSQL of our own."""
    section = Section(
        f"Changes over gRPC, {_CONNECTIONS} connections x {_AT_ONCE} calls, all cores",
        ("call", "database", "calls/s", "p50 ms", "p99 ms", "server µs"),
    )
    section.rows.extend(_rows(plan, "SQLite", install(plan.data_dir("sqlite"), plan.population, keys=_KEYS)))
    postgres = PrivatePostgres()
    try:
        url = postgres.create_database("bench")
        installation = install(plan.data_dir("postgres"), plan.population, keys=_KEYS, database=url)
        section.rows.extend(_rows(plan, "PostgreSQL", installation))
    finally:
        postgres.remove()
    section.notes.append(
        "bcrypt has one thread for new secrets, which bounds both; PostgreSQL runs beside, without fsync"
    )
    return section


def _rows(plan: Plan, database: str, installation: Installation) -> list[tuple[Cell, ...]]:
    with serving("bench.restarted", installation.data_dir, core=None) as server:
        create = Load(
            port=server.ports["native"],
            path=_CREATE,
            asked="create",
            management_key=installation.management_key,
            connections=_CONNECTIONS,
            at_once=_AT_ONCE,
            warm_up_s=plan.warm_up_s,
            seconds=plan.change_seconds,
        )
        rotate = replace(
            create,
            path=_ROTATE,
            asked="rotate",
            population=installation.population,
            keys=installation.keys,
            access="once",
        )
        found: list[tuple[Cell, ...]] = []
        for name, load in (("CreateKey", create), ("RotateKey", rotate)):
            run = measure(load, server)
            result = run.result
            found.append((name, database, result.per_second, result.p50_ms, result.p99_ms, run.server_us))
    return found
