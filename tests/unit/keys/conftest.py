"""Lends the tests of the keys' services a world in memory, with one workspace, one caller and one owner."""

from __future__ import annotations

import pytest

from keystead.keys.principal import Principal
from tests.world import World


@pytest.fixture
def world() -> World:
    """Lend a world in memory."""
    return World()


@pytest.fixture
async def root(world: World) -> Principal:
    """Lend the first management key's caller; there is an owner ``customer-1``."""
    _, caller, _ = await world.workspace()
    await world.owner(caller)
    return caller
