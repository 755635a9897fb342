"""The walls around a unit of work."""

from __future__ import annotations

import pytest

from keystead.adapters.walls import OutsideWallsError, Walls
from keystead.tenants.model import BOTH_ENVIRONMENTS, Environment, TenantScope


def test_walls_around_everything_admit_everything() -> None:
    """The system's own units see every workspace, but cannot tell which workspace an owner id means."""
    walls = Walls.around(None)
    assert walls.admit("wsp_1")
    with pytest.raises(OutsideWallsError):
        walls.demand_workspace()


def test_walls_around_a_workspace_admit_it_alone() -> None:
    """Inside a workspace's walls there is that workspace."""
    walls = Walls.around(TenantScope("wsp_1", BOTH_ENVIRONMENTS))
    assert (walls.admit("wsp_1"), walls.admit("wsp_2"), walls.demand_workspace()) == (True, False, "wsp_1")
    assert walls.environments is None
    with pytest.raises(OutsideWallsError):
        walls.demand("wsp_2")


def test_walls_around_no_environment_admit_no_key() -> None:
    """A scope without environments sees nothing, rather than everything."""
    assert Walls.around(TenantScope("wsp_1", frozenset())).environments == frozenset()
    assert Walls.around(TenantScope("wsp_1", frozenset({Environment.ALL}))).environments == frozenset({Environment.ALL})
