"""A crowd of clients that verify without end, on several servers at once, and remember what each was told and when.

A server that dies under them loses the calls under way, each of which may have been counted or not; its clients wait
for it to be back and go on.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

from keystead.gen.v1 import verification_pb2
from tests.clients import UNREACHABLE, Client, client_for
from tests.placements import Admission
from tests.polling import eventually
from tests.servers import KeysteadServer

_PAUSE_MAX_S = 0.004
_NAMES = {number: name for name, number in verification_pb2.VerifyKeyResponse.Code.items()}


class Told(NamedTuple):
    """One verdict: of which server, between which moments of the monotonic clock, and what it was."""

    server: int
    sent_us: int
    received_us: int
    code: str
    cost: int
    degraded: bool

    @property
    def admitted(self) -> bool:
        """Whether the call was to go ahead."""
        return self.code == "VALID"


@dataclass(slots=True)
class Account:
    """Everything that was asked about one key; ``unanswered`` calls were lost with their server."""

    key_id: str
    secret: str
    told: list[Told] = field(default_factory=list)
    unanswered: int = 0
    refused: list[str] = field(default_factory=list)
    """The reasons of calls that got no verdict from a server that was there."""

    @property
    def spent(self) -> int:
        """The cost of everything that was admitted."""
        return sum(one.cost for one in self.told if one.admitted)

    @property
    def codes(self) -> Counter[str]:
        """How many verdicts there were of each code."""
        return Counter(one.code for one in self.told)

    def degraded(self) -> list[Told]:
        """Return the verdicts that were given without Redis."""
        return [one for one in self.told if one.degraded]

    def admissions(self, wanted: Callable[[Told], bool] = lambda _: True) -> list[Admission]:
        """Return what was admitted, of the verdicts that are ``wanted``."""
        return [Admission(one.sent_us, one.received_us, one.cost) for one in self.told if one.admitted and wanted(one)]


def now_us() -> int:
    """Return the time that verdicts are dated by."""
    return time.monotonic_ns() // 1_000


async def ask(client: Client, account: Account, server: int, *, cost: int = 1) -> bool:
    """Ask once and remember what was told; say whether there was an answer."""
    sent_us = now_us()
    answer = await client.call("VerifyKey", key=account.secret, environment="LIVE", cost=cost)
    if answer.ok:
        reply: Any = answer.reply
        account.told.append(Told(server, sent_us, now_us(), _NAMES[reply.code], cost, reply.degraded))
    elif answer.status == UNREACHABLE:
        account.unanswered += 1
    else:
        account.refused.append(answer.reason or answer.status)
    return answer.status != UNREACHABLE


class Crowd:
    """Clients of ``servers`` that ask about ``accounts``, each several times at once on each server."""

    def __init__(self, servers: Sequence[KeysteadServer], accounts: Sequence[Account], *, seed: int = 0) -> None:
        """Prepare; nobody calls yet."""
        self._servers = servers
        self._accounts = accounts
        self._token = servers[0].management_key
        self._random = Random(seed)
        self._over = False
        self.present = [True] * len(servers)
        """Whether a server may be called: whoever kills one says so, and when it is back."""

    @asynccontextmanager
    async def hammering(self, *, at_once: int = 2) -> AsyncIterator[None]:
        """Have the clients call beside what is done meanwhile; at the end every call has its answer or never will."""
        self._over = False
        callers = [
            asyncio.create_task(self._call(number, account))
            for number in range(len(self._servers))
            for account in self._accounts
            for _ in range(at_once)
        ]
        try:
            yield
        finally:
            self._over = True
            await asyncio.gather(*callers)

    async def more(self, account: Account, count: int, wanted: Callable[[Told], bool] = lambda _: True) -> None:
        """Wait until ``count`` more verdicts that are ``wanted`` were given about a key."""
        seen = len(account.told)

        async def enough() -> bool:
            return sum(map(wanted, account.told[seen:])) >= count

        await eventually(enough, within_s=30.0)

    async def _call(self, number: int, account: Account) -> None:
        server = self._servers[number]
        while await self._goes_on():
            async with AsyncExitStack() as stack:
                client = await stack.enter_async_context(client_for(server, token=self._token))
                while await ask(client, account, number) and await self._goes_on():
                    pass
            await self._back(number)

    async def _goes_on(self) -> bool:
        await asyncio.sleep(self._random.uniform(0, _PAUSE_MAX_S))
        return not self._over

    async def _back(self, number: int) -> None:
        async def back() -> bool:
            return self.present[number]

        await eventually(back, within_s=60.0)
