"""The verdict: state, place, scope, in that order, over an entry that is already found.

The warm path is plain synchronous Python over memory and written for batches; only a cold secret awaits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from keystead.kernel.clock import Clock
from keystead.kernel.ids import SequentialIds
from keystead.keys import addresses, secret_format
from keystead.keys.model import KeyState, SecretStatus
from keystead.keys.principal import Principal
from keystead.scopes import expression
from keystead.tenants.model import Environment
from keystead.usage.model import CODE_NUMBERS
from keystead.usage.ports import AttemptCounters, Journal
from keystead.verification.cache import Entry, environment_named
from keystead.verification.last_use import LastUses
from keystead.verification.measures import SAMPLED_EVERY, VerificationMeasures
from keystead.verification.model import Code
from keystead.verification.resolver import SecretResolver

HTTP_STATUS = {
    Code.VALID: 200,
    Code.MALFORMED: 401,
    Code.NOT_FOUND: 401,
    Code.REVOKED: 401,
    Code.SUSPENDED: 401,
    Code.EXPIRED: 401,
    Code.WRONG_ENVIRONMENT: 401,
    Code.IP_NOT_ALLOWED: 403,
    Code.INSUFFICIENT_SCOPE: 403,
    Code.FORBIDDEN: 403,
    Code.RATE_LIMITED: 429,
    Code.QUOTA_EXCEEDED: 429,
}

_CODE_NUMBERS = {code: CODE_NUMBERS[code.value] for code in Code}
_COLD_AT_ONCE = 100  # a batch of first uses must neither fill the lane of all others nor be shed by it


class VerifyRequest:
    """What is asked: a secret, and what it must be good for in an environment that is never ``ALL``."""

    __slots__ = ("client_ip", "cost", "environment", "key", "operation", "peek", "scope_expression", "tags")

    def __init__(  # noqa: PLR0917 -- by name it takes half as long again
        self,
        key: str,
        environment: Environment,
        scope_expression: str = "",
        client_ip: str = "",
        operation: str = "",
        cost: int = 1,
        tags: str = "",
        *,
        peek: bool = False,
    ) -> None:
        """Ask about ``key``; ``operation`` and ``tags``, parted by line ends, are what the call is named in usage.

        ``cost`` is 0 to 1,000,000. A ``peek`` spends and counts nothing.
        """
        self.key = key
        self.environment = environment
        self.scope_expression = scope_expression
        self.client_ip = client_ip
        self.operation = operation
        self.cost = cost
        self.tags = tags
        self.peek = peek


class Verdict:
    """The answer. ``entry`` is None when the caller may not be told which key it was."""

    __slots__ = ("code", "degraded", "entry", "missing_scopes", "now_ms", "verification_id")

    def __init__(
        self,
        code: Code,
        verification_id: str,
        now_ms: int,
        entry: Entry | None = None,
        missing_scopes: tuple[str, ...] = (),
    ) -> None:
        """Answer ``code`` at ``now_ms``."""
        self.code = code
        self.verification_id = verification_id
        self.now_ms = now_ms
        self.entry = entry
        self.missing_scopes = missing_scopes
        self.degraded = False

    @property
    def valid(self) -> bool:
        """Whether to go ahead."""
        return self.code is Code.VALID

    @property
    def secret_status(self) -> SecretStatus | None:
        """Where the presented secret is in its life."""
        if self.entry is None:
            return None
        retires_at_ms = self.entry.retires_at_ms
        if retires_at_ms is None:
            return SecretStatus.CURRENT
        return SecretStatus.RETIRING if self.now_ms < retires_at_ms else SecretStatus.RETIRED


class VerificationService:
    """Verifies secrets for management keys of the workspace that minted them."""

    def __init__(
        self,
        resolver: SecretResolver,
        uses: LastUses,
        journal: Journal,
        clock: Clock,
        *,
        ids: SequentialIds,
        attempts: AttemptCounters,
    ) -> None:
        """Find entries with ``resolver``, note good secrets in ``uses``, write verdicts of keys to ``journal``.

        Verdicts about no key of the caller's are counted in ``attempts``.
        """
        self._resolver = resolver
        self._uses = uses
        self._journal = journal
        self._attempts = attempts
        self._clock = clock
        self._ids = ids
        self.measures = VerificationMeasures()

    async def verify(self, caller: Principal, request: VerifyRequest) -> Verdict:
        """Give one verdict; raise ``StaleError``, ``OverloadedError`` or ``UnavailableError`` when there is none."""
        verdict = self.warm(caller, request)
        return verdict if verdict is not None else await self._cold(caller, request)

    async def verify_batch(self, caller: Principal, requests: Sequence[VerifyRequest]) -> list[Verdict]:
        """Give the verdicts in order; cold secrets are found side by side, as many at once as a lane has room for."""
        verdicts = [self.warm(caller, request) for request in requests]
        cold = [index for index, verdict in enumerate(verdicts) if verdict is None]
        late: dict[int, Verdict] = {}
        for start in range(0, len(cold), _COLD_AT_ONCE):
            some = cold[start : start + _COLD_AT_ONCE]
            found = await asyncio.gather(*[self._cold(caller, requests[index]) for index in some])
            late.update(zip(some, found, strict=True))
        return [late[index] if verdict is None else verdict for index, verdict in enumerate(verdicts)]

    def warm(self, caller: Principal, request: VerifyRequest) -> Verdict | None:
        """Give the verdict for a secret this process has proven before, without awaiting; None when it has not."""
        measures = self.measures
        measures.asked += 1
        began_ns = 0 if measures.asked % SAMPLED_EVERY else self._clock.monotonic_ns()
        resolver = self._resolver
        entry = resolver.warm(resolver.digest(request.key))
        if entry is None:
            measures.absent += 1
            return None
        verdict = self._decide(caller, request, entry)
        if began_ns:
            measures.warm.observe(self._clock.monotonic_ns() - began_ns)
        return verdict

    async def _cold(self, caller: Principal, request: VerifyRequest) -> Verdict:
        resolver = self._resolver
        self.measures.misses += 1
        parsed = resolver.parse(request.key)
        if isinstance(parsed, Code):
            return self._bare(parsed, caller, request)
        text, master_id = parsed
        if text.brand != caller.brand:
            return self._bare(Code.NOT_FOUND, caller, request)
        if caller.environment is not Environment.ALL and environment_named(text.environment) is not caller.environment:
            return self._bare(Code.WRONG_ENVIRONMENT, caller, request)
        began_ns = self._clock.monotonic_ns()
        found = await resolver.cold(resolver.digest(request.key), text, master_id)
        if isinstance(found, Code):
            verdict = self._bare(found, caller, request)
        else:
            verdict = self._decide(caller, request, found)
        self.measures.cold.observe(self._clock.monotonic_ns() - began_ns)
        return verdict

    def _decide(self, caller: Principal, request: VerifyRequest, entry: Entry) -> Verdict:
        """Walk the line from state to scope over ``entry``."""
        if entry.workspace_id != caller.workspace_id or entry.own:
            return self._bare(Code.NOT_FOUND, caller, request)
        if caller.environment is not Environment.ALL and entry.environment is not caller.environment:
            return self._bare(Code.WRONG_ENVIRONMENT, caller, request)
        now_ms = self._clock.now_ms()
        code = Code.VALID
        missing: tuple[str, ...] = ()
        if not entry.usable or now_ms >= entry.ends_at_ms:
            code = _state_code(entry, now_ms)
        elif entry.environment is not request.environment:
            code = Code.WRONG_ENVIRONMENT
        elif entry.networks and not addresses.contains(entry.networks, request.client_ip):
            code = Code.IP_NOT_ALLOWED
        elif missing := expression.missing(request.scope_expression, entry.grants):
            code = Code.INSUFFICIENT_SCOPE
        verdict = Verdict(code, self._ids.next(now_ms), now_ms, entry, missing)
        if request.peek:
            return self._told(verdict)
        if code is Code.VALID:
            self._uses.note(entry, now_ms)
        # Written down before the answer leaves; when that cannot be, there is no answer either (P5).
        self._journal.append(
            entry,
            code=_CODE_NUMBERS[code],
            at_ms=now_ms,
            ordinal=self._ids.last_ordinal,
            cost=request.cost,
            operation=request.operation,
            client_ip=request.client_ip,
            scope_expression=request.scope_expression,
            tags=request.tags,
        )
        return self._told(verdict)

    def _bare(self, code: Code, caller: Principal, request: VerifyRequest) -> Verdict:
        """Say ``code`` and nothing of any key; of the text only its brand and environment are counted (P1)."""
        now_ms = self._clock.now_ms()
        if not request.peek:
            text = secret_format.parse(request.key)
            self._attempts.count(
                workspace_id=caller.workspace_id,
                environment=request.environment,
                brand=text.brand if text else "",
                secret_environment=text.environment if text else "",
                code=_CODE_NUMBERS[code],
                client_ip=request.client_ip,
                at_ms=now_ms,
            )
        return self._told(Verdict(code, self._ids.next(now_ms), now_ms))

    def _told(self, verdict: Verdict) -> Verdict:
        if self._resolver.serves_stale:
            verdict.degraded = self._resolver.degraded
            self.measures.degraded += verdict.degraded
        self.measures.verdicts[verdict.code] += 1
        return verdict


def _state_code(entry: Entry, now_ms: int) -> Code:
    """Say why an unusable entry is refused, in the order of DESIGN §4."""
    if entry.state is KeyState.REVOKED:
        return Code.REVOKED
    if entry.state is KeyState.SUSPENDED:
        return Code.SUSPENDED
    if now_ms >= entry.ends_at_ms:
        return Code.EXPIRED
    return Code.SUSPENDED
