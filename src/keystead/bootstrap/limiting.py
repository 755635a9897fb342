"""The limiter on its stores: this process alone or Redis behind a breaker, and blocks of allowances from SQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from keystead.adapters.memory.rates import MemoryRates
from keystead.adapters.redis.address import RedisAddress
from keystead.adapters.redis.rates import RedisRates
from keystead.config import ConfigError, Settings
from keystead.kernel.clock import Clock
from keystead.limits.blocks import Blocks
from keystead.limits.breaker import BreakingRates
from keystead.limits.local import share_of
from keystead.limits.ports import AllowanceUnits, RateStore
from keystead.verification.limiting import Limiter


class Limiting:
    """A limiter and what it stands on, for those who start it, stop it and watch it.

    ``redis`` and ``breaker`` are None in a process that counts for itself alone.
    """

    def __init__(self, settings: Settings, units: AllowanceUnits, clock: Clock) -> None:
        """Wire; nothing is connected to yet."""
        self.redis = (
            RedisRates(_address(settings.redis), timeout_ms=settings.redis_timeout_ms) if settings.redis else None
        )
        self.memory = MemoryRates(clock, capacity=settings.limit_counters)
        self.local = MemoryRates(clock, capacity=settings.limit_counters, begins_empty=True)
        self.breaker = BreakingRates(self.redis, clock) if self.redis is not None else None
        self.blocks = Blocks(units, clock)
        self.rates: RateStore = self.breaker or self.memory
        share = partial(share_of, expected_nodes=settings.expected_nodes)
        self.limiter = Limiter(self.rates, self.blocks, local=self.local, share=share)
        # Counters that callers name have a room of their own, so that they never crowd out those of keys.
        checked = MemoryRates(clock, capacity=settings.limit_counters)
        checked_here = MemoryRates(clock, capacity=settings.limit_counters, begins_empty=True)
        self.checks = Limiter(
            self.breaker or checked,
            self.blocks,
            local=checked_here,
            share=share,
            measures=self.limiter.measures,
        )
        self.stores = (self.memory, self.local, checked, checked_here)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Connect; at the end give back the allowances that were not spent here."""
        if self.redis is not None:
            await self.redis.start()
        try:
            yield
        finally:
            try:
                await self.blocks.release_all()
            finally:
                if self.redis is not None:
                    await self.redis.close()


def _address(url: str) -> RedisAddress:
    try:
        return RedisAddress.parse(url)
    except ValueError as error:
        raise ConfigError([f"redis (--redis, KEYSTEAD_REDIS): {error}"]) from None
