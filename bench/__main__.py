"""``python -m bench``: measure, print tables, say which promises are kept, and exit 1 when one is not."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from bench import plan as plans
from bench.installation import Installation, install, write_population
from bench.plan import Plan
from bench.report import Section, as_json, as_markdown, show
from bench.scenarios import changes, cold, exports, grpc, http, limits, process, propagation, writers

_WIDTH_CHARACTERS = 132
SCENARIOS = ("process", "grpc", "http", "cold", "changes", "limits", "writers", "exports", "propagation")


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says."""
    options = _options(arguments)
    sections: list[Section] = []
    try:
        with _folder(options.folder) as folder:
            made = (plans.quick if options.quick else plans.full)(folder, options.keys)
            sections.extend(_measure(made, options.only or SCENARIOS, Console(stderr=True)))
    finally:  # what was measured is shown even when the rest cannot be
        _report(sections, options)
    return 0 if all(check.passed or check.name.startswith("…") for one in sections for check in one.checks) else 1


def _report(sections: Sequence[Section], options: argparse.Namespace) -> None:
    show(Console(width=None if sys.stdout.isatty() else _WIDTH_CHARACTERS), sections)
    if options.json is not None:
        options.json.write_text(json.dumps(as_json(sections), indent=2) + "\n", encoding="utf-8")
    if options.markdown is not None:
        options.markdown.write_text(as_markdown(sections), encoding="utf-8")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Keystead on this machine.")
    parser.add_argument("--quick", action="store_true", help="a minute, to see that it works; the numbers mean nothing")
    parser.add_argument("--only", action="append", choices=SCENARIOS, help="measure this alone; may be repeated")
    parser.add_argument("--keys", type=int, nargs="+", default=(), help="numbers of keys in place of the usual ones")
    parser.add_argument("--folder", type=Path, help="keep the keys there, for the next run; deleted when not given")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there as well")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there, for the documentation")
    return parser.parse_args(arguments)


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield given.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="keystead-bench-") as folder:
        yield Path(folder)


def _measure(plan: Plan, chosen: Sequence[str], progress: Console) -> Iterator[Section]:
    progress.print(f"Making {plan.keys_max:,} keys …")
    write_population(plan.population, plan.keys_max)
    if "process" in chosen:
        progress.print("Measuring in process …")
        yield from process.measure(plan)
    if {"grpc", "http"} & set(chosen):
        installations = [_installed(plan, keys, progress) for keys in plan.sizes]
        if "grpc" in chosen:
            progress.print("Measuring gRPC …")
            yield grpc.measure_grpc(plan, installations)
        if "http" in chosen:
            progress.print("Measuring HTTP …")
            yield http.measure_http(plan, installations[0])
    if "cold" in chosen:
        progress.print(f"Measuring a cold start: {plan.cold_keys:,} real hashes first …")
        yield cold.measure_cold(plan)
    if "changes" in chosen:
        progress.print("Measuring changes …")
        yield changes.measure_changes(plan)
    if "limits" in chosen:
        progress.print("Measuring limits …")
        yield limits.measure_limits(plan)
    yield from _measure_log(plan, chosen, progress)


def _measure_log(plan: Plan, chosen: Sequence[str], progress: Console) -> Iterator[Section]:
    if "writers" in chosen:
        progress.print("Measuring writers …")
        yield writers.measure_writers(plan)
    if "exports" in chosen:
        progress.print(f"Measuring exports: {plan.events:,} events first, on each database …")
        yield exports.measure_exports(plan)
    if "propagation" in chosen:
        progress.print("Measuring revocations on three nodes …")
        yield propagation.measure_propagation(plan)


def _installed(plan: Plan, keys: int, progress: Console) -> Installation:
    progress.print(f"Storing {keys:,} keys …")
    return install(plan.data_dir(str(keys)), plan.population, keys=keys)


if __name__ == "__main__":
    sys.exit(main())
