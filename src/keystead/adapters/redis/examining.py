"""What ``keystead doctor`` wants to know of a Redis: plain values, and no opinion of what they should be."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

from keystead.adapters.redis.address import RedisAddress
from keystead.adapters.redis.connection import CONNECT_MS, command, introduce
from keystead.adapters.redis.measures import RedisMeasures
from keystead.adapters.redis.pipeline import Pipeline
from keystead.limits.errors import LimiterAwayError


@dataclass(frozen=True, slots=True)
class RedisExamined:
    """How a Redis is set up. A text is empty when the server does not tell: managed ones often hide their settings.

    ``maxmemory_policy`` other than ``noeviction`` may forget counters in use; ``append_fsync`` (``always``,
    ``everysec``, ``no``, or ``off`` without an append-only file) says how much of them a crash may lose.
    """

    version: str
    answered_in_ms: float
    maxmemory_policy: str
    append_fsync: str
    role: str


async def examine_redis(address: RedisAddress) -> RedisExamined:
    """Ask a Redis about itself, on a connection of its own; raise ``LimiterAwayError`` when it does not answer."""
    pipeline: Pipeline | None = None
    try:
        async with asyncio.timeout(CONNECT_MS / 1_000):
            pipeline = await address.connect(_new_pipeline)
            await introduce(pipeline, address)
            return await _examined(pipeline)
    except OSError as error:  # a timeout is one
        raise LimiterAwayError(f"there is no connection to {address}: {str(error) or type(error).__name__}") from error
    finally:
        if pipeline is not None:
            pipeline.close("enough was asked")


async def _examined(pipeline: Pipeline) -> RedisExamined:
    began_ns = perf_counter_ns()
    await pipeline.ask(command("PING"), _any)
    answered_in_ms = (perf_counter_ns() - began_ns) / 1_000_000
    info, policy, fsync = await asyncio.gather(
        pipeline.ask(command("INFO"), _lines),
        pipeline.ask(command("CONFIG", "GET", "maxmemory-policy"), _setting),
        pipeline.ask(command("CONFIG", "GET", "appendfsync"), _setting),
    )
    if "role" not in info:
        raise LimiterAwayError("Redis does not let us ask for INFO")
    return RedisExamined(
        version=info.get("valkey_version") or info.get("redis_version", ""),
        answered_in_ms=answered_in_ms,
        maxmemory_policy=policy or info.get("maxmemory_policy", ""),
        append_fsync=fsync if info.get("aof_enabled") == "1" else "off",
        role=info["role"],
    )


def _new_pipeline() -> Pipeline:
    return Pipeline(RedisMeasures(), timeout_ms=CONNECT_MS, stall_ms=CONNECT_MS)


def _any(reply: Any) -> Any:
    return reply


def _lines(reply: Any) -> dict[str, str]:
    """Read ``INFO``: a line for each value; none of an error."""
    text = reply.decode(errors="replace") if isinstance(reply, bytes) else ""
    pairs = [line.partition(":") for line in text.splitlines() if not line.startswith("#")]
    return {name: value for name, _, value in pairs}


def _setting(reply: Any) -> str:
    """Read ``CONFIG GET`` of one setting; empty of an error."""
    if isinstance(reply, list) and len(reply) == 2 and isinstance(reply[1], bytes):
        return reply[1].decode(errors="replace")
    return ""
