"""Keep the process's memory to itself: no core dumps, and no other process of the same user may read it (P1)."""

from __future__ import annotations

import ctypes
import resource

_PR_SET_DUMPABLE = 4


def make_undumpable() -> bool:
    """Switch core dumps and ptrace by equals off; return whether the kernel agreed."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    library = ctypes.CDLL(None, use_errno=True)
    return bool(library.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)
