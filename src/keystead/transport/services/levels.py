"""Where limits stand, as messages and as headers."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

from keystead.gen.v1 import limits_pb2
from keystead.verification.limiting import Limited, LimitState

_US = 1_000_000


def tell_states(messages: RepeatedCompositeFieldContainer[limits_pb2.LimitState], states: Sequence[LimitState]) -> None:
    """Add the states to a reply's limits."""
    for state in states:
        tell_state(messages.add(), state)


def tell_state(message: limits_pb2.LimitState, state: LimitState) -> None:
    """Write a state, field by field: every limited call does, and a constructor takes twice as long."""
    message.name, message.limit, _, message.remaining, reset_after_us, _ = state
    reset_after = message.reset_after
    reset_after.seconds, rest_us = divmod(reset_after_us, _US)
    reset_after.nanos = rest_us * 1_000


def limit_headers(limited: Limited) -> dict[str, str]:
    """Write the states as ``RateLimit`` and ``RateLimit-Policy`` (draft-ietf-httpapi-ratelimit-headers-11).

    ``t`` is until a limit is whole again. In a denial only those that denied have one, until they would admit, so that
    ``Retry-After``, the longest of them, is never earlier. A call that no waiting helps has no ``Retry-After``.
    """
    headers = {}
    if limited.states:
        headers["ratelimit-policy"] = ", ".join([_policy(state) for state in limited.states])
        headers["ratelimit"] = ", ".join([_level(state, denied=not limited.admitted) for state in limited.states])
    if limited.retry_after_us > 0:
        headers["retry-after"] = str(_seconds_up(limited.retry_after_us))
    return headers


def _policy(state: LimitState) -> str:
    window = f";w={state.window_s}" if state.window_s else ""
    return f'"{state.name}";q={state.limit}{window}'


def _level(state: LimitState, *, denied: bool) -> str:
    until_us = state.wait_us if denied else state.reset_after_us
    until = f";t={_seconds_up(until_us)}" if until_us > 0 or not denied else ""
    return f'"{state.name}";r={state.remaining}{until}'


def _seconds_up(microseconds: int) -> int:
    return -(-microseconds // _US)
