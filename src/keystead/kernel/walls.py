"""The walls between tenants, as a word that every domain shares (P8)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Environment(StrEnum):
    """One of a workspace's two worlds; ``ALL`` only for management and operator keys."""

    LIVE = "live"
    TEST = "test"
    ALL = "all"


BOTH_ENVIRONMENTS = frozenset({Environment.LIVE, Environment.TEST, Environment.ALL})


@dataclass(frozen=True, slots=True)
class TenantScope:
    """The walls around one caller: a workspace and the environments of it that he may see.

    Only authentication and the command line's bootstrap make one; every store takes one, so nothing reads across.
    """

    workspace_id: str
    environments: frozenset[Environment]
