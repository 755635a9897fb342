"""Limits as text in a store, and back.

Very many keys share few texts, so a text is read once and what was read is shared.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache

from keystead.events.model import canonical
from keystead.kernel.limit import Limit, limit_of, limit_record

_TEXTS_KEPT = 4_096


def limits_text(limits: Sequence[Limit]) -> str:
    """Write limits as canonical JSON; the same limits have the same text."""
    return canonical([limit_record(limit) for limit in limits]) if limits else "[]"


@lru_cache(maxsize=_TEXTS_KEPT)
def limits_from(text: str) -> tuple[Limit, ...]:
    """Read what ``limits_text`` wrote; equal texts give the same tuple."""
    return tuple([limit_of(record) for record in json.loads(text)])
