"""Any sequence of lifecycle calls agrees with a small model, in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.lifecycle import machine_over
from tests.world import World


@asynccontextmanager
async def memory_world() -> AsyncIterator[World]:
    """Open an empty world in memory."""
    yield World()


def test_any_life_of_a_key_agrees_with_the_model() -> None:
    """Made, changed, rotated, finished, cancelled, suspended, resumed, revoked, its owner too: in any order."""
    run_state_machine_as_test(machine_over(memory_world), settings=settings(max_examples=50, stateful_step_count=40))
