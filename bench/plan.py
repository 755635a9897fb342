"""How much is measured: everything, or enough to see that the benchmark itself works."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """``folder`` is for files that are deleted at the end; ``sizes`` are the numbers of keys, in ascending order."""

    folder: Path
    sizes: Sequence[int]
    rounds: int
    seconds: float
    warm_up_s: float
    process_calls: int
    cold_keys: int
    change_seconds: float
    events: int
    revocations: int

    @property
    def population(self) -> Path:
        """Where the keys are."""
        return self.folder / "population.txt"

    @property
    def keys_max(self) -> int:
        """How many keys the population needs."""
        return max(*self.sizes, self.cold_keys)

    def data_dir(self, name: str) -> Path:
        """Return the data directory called ``name``."""
        return self.folder / name


def full(folder: Path, sizes: Sequence[int]) -> Plan:
    """Measure what the documentation shows: about a quarter of an hour."""
    return Plan(
        folder=folder,
        sizes=sorted(sizes or (1_000, 100_000, 1_000_000)),
        rounds=5,
        seconds=3.0,
        warm_up_s=1.0,
        process_calls=250_000,
        cold_keys=10_000,
        change_seconds=5.0,
        events=1_000_000,
        revocations=200,
    )


def quick(folder: Path, sizes: Sequence[int]) -> Plan:
    """Measure a little of everything: about a minute. Its numbers mean nothing."""
    return Plan(
        folder=folder,
        sizes=sorted(sizes or (1_000, 10_000)),
        rounds=1,
        seconds=1.0,
        warm_up_s=0.3,
        process_calls=25_000,
        cold_keys=1_000,
        change_seconds=1.0,
        events=20_000,
        revocations=20,
    )
