"""What keys and their secrets were used for, in memory: questions about calls, in plain Python."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from keystead.usage.model import INTERVAL_MS, VALID_NUMBER, Call, Interval, SecretUse

ADDRESSES_MAX = 20
_HOUR_MS = INTERVAL_MS[Interval.HOUR]


def secret_uses(calls: Iterable[Call]) -> list[SecretUse]:
    """Return what was done with each secret in ``calls``, by secret."""
    by_secret: dict[str, list[Call]] = {}
    for call in calls:
        by_secret.setdefault(call.subject.secret_id, []).append(call)
    return [SecretUse(secret_id, len(members), _addresses(members)) for secret_id, members in sorted(by_secret.items())]


def _addresses(calls: Iterable[Call]) -> tuple[str, ...]:
    counts = Counter(call.client_ip for call in calls if call.client_ip)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(address for address, _ in ranked[:ADDRESSES_MAX])


def used_expressions(calls: Iterable[Call], *, since_ms: int) -> Mapping[str, frozenset[str]]:
    """Return which expressions valid ``calls`` asked for, by key, from the hour of ``since_ms`` on."""
    hour_ms = since_ms - since_ms % _HOUR_MS
    found: dict[str, set[str]] = {}
    for call in calls:
        if call.code == VALID_NUMBER and call.at_ms >= hour_ms:
            found.setdefault(call.subject.key_id, set()).add(call.scope_expression)
    return {key_id: frozenset(expressions) for key_id, expressions in found.items()}
