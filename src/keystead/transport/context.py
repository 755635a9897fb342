"""What a handler works with: who calls, and the unit of work that the call runs in."""

from __future__ import annotations

from dataclasses import dataclass

from keystead.keys.ports import Unit
from keystead.keys.principal import Principal


@dataclass(frozen=True, slots=True)
class Context:
    """One authenticated call whose rights to the method were checked."""

    caller: Principal
    unit: Unit
