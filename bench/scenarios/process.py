"""A warm verification without any transport: what our own code costs in time, and a cached key in memory."""

from __future__ import annotations

import json

from bench.in_process import Figures
from bench.plan import Plan
from bench.processes import run_module
from bench.report import Check, Section
from bench.summary import ratio

_BOUND_US = 15.0
_BOUND_RATIO = 1.3
_BOUND_BYTES = 1_024
_WEIGHED_FROM_KEYS = 100_000


def measure(plan: Plan) -> list[Section]:
    """Time and weigh, in a fresh process for each number of keys."""
    found = [_figures(plan, keys) for keys in plan.sizes]
    return [_times(found), _parts(found[0])]


def _times(found: list[Figures]) -> Section:
    section = Section(
        "In process, warm: µs for each call",
        ("keys", "access", "decision", "bytes to bytes", "whole call", "bytes a key (process)", "(objects)"),
        notes=[
            "whole call: header, authentication, bytes, verdict, bytes, 16 calls at a time, as the native engine asks",
            "bytes a key: growth of the process, and the sum of the objects of one entry",
        ],
    )
    for one in found:
        resident = one.resident_bytes_per_key if one.keys >= _WEIGHED_FROM_KEYS else "-"
        for access in one.decision_us:
            times = (one.decision_us[access], one.bytes_to_bytes_us[access], one.whole_us[access])
            section.rows.append((one.keys, access, *times, resident, one.object_bytes_per_key))
    few, many = found[0], found[-1]
    section.checks.append(
        Check(
            "Our own work for a warm call in process (Zipf, worst size)",
            _worst_us(found),
            _BOUND_US,
            "µs",
            at_most=True,
        )
    )
    section.checks.append(
        Check(
            f"In process, Zipf at {many.keys:,} keys against {few.keys:,}",
            ratio(many.whole_us["zipf"], few.whole_us["zipf"]),
            _BOUND_RATIO,
            "x",
            at_most=True,
        )
    )
    if many.keys >= _WEIGHED_FROM_KEYS:
        name = f"Memory for a cached key, of {many.keys:,}"
        section.checks.append(Check(name, many.resident_bytes_per_key, _BOUND_BYTES, "bytes", at_most=True))
    return section


def _parts(one: Figures) -> Section:
    section = Section(f"Where a warm call's time goes, {one.keys:,} keys, Zipf", ("part", "µs"))
    section.rows.extend(one.parts_us.items())
    section.rows.append(("the whole call", one.whole_us["zipf"]))
    return section


def _worst_us(found: list[Figures]) -> float:
    return max(one.whole_us["zipf"] for one in found)


def _figures(plan: Plan, keys: int) -> Figures:
    printed = run_module(
        "bench.in_process", str(plan.population), str(keys), str(plan.process_calls), lasts_s=keys / 10_000
    )
    return Figures(**json.loads(printed))
