"""What one node may admit alone while the store that all nodes share is away: its share of every rate.

All nodes together then admit at most what the limit allows, as long as there are no more of them than were expected.
A share is rounded down, so a limit smaller than the number of nodes denies always. The store that counts shares must
begin empty: what was spent just before the outage is not known here.
"""

from __future__ import annotations

from keystead.limits.model import BucketRate, Metered, Rate, WindowRate


def share_of(metered: Metered, expected_nodes: int) -> Metered:
    """Return the share of one of ``expected_nodes``, at least 1; it is made once for each ``metered``.

    ``expected_nodes`` must be the same in all calls of a process.
    """
    if metered.share is None:
        metered.share = Metered(
            [_share(rate, expected_nodes) for rate in metered.rates],
            metered.allowances,
            order=metered.order,
            on_outage=metered.on_outage,
        )
    return metered.share


def _share(rate: Rate, nodes: int) -> Rate:
    limit = rate.limit // nodes
    if isinstance(rate, WindowRate):
        return WindowRate(rate.name, rate.counter, limit, rate.width_us)
    # A token of so many more units takes exactly so many times as long to come back. A full share has no more units
    # than the whole bucket had, so it is as exact.
    token_units = rate.token_units * nodes
    return BucketRate(rate.name, rate.counter, limit, token_units, rate.gain_units, limit * token_units)
