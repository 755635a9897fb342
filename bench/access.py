"""Which keys are asked for: the few again and again (Zipf), each as likely as the next (uniform), or each once.

A rank is not a place: ranks are dealt out over the keys at random, so that the keys asked for most were not made, and
do not lie in memory, side by side.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

Access = Literal["zipf", "uniform", "once", "first"]

ZIPF_EXPONENT = 1.1


def zipf_weights(keys: int, exponent: float = ZIPF_EXPONENT) -> list[float]:
    """Return how often each rank is asked for, the first 1.0: rank r has 1 / r^exponent (Zipf 1949)."""
    return [rank**-exponent for rank in range(1, keys + 1)]


def draw(access: Access, *, keys: int, count: int, seed: int) -> Sequence[int]:
    """Draw ``count`` of the places 0 to ``keys`` - 1; ``once`` draws at most ``keys``, ``first`` place 0 alone."""
    source = random.Random(seed)
    if access == "first":
        return [0] * count
    if access == "uniform":
        return source.choices(range(keys), k=count)
    places = list(range(keys))
    source.shuffle(places)
    if access == "once":
        return places[:count]
    totals = list(accumulate(zipf_weights(keys)))
    return source.choices(places, cum_weights=totals, k=count)
