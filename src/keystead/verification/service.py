"""The verdict: state, place, scope, limits, in that order, over an entry that is already found.

The warm path is plain synchronous Python over memory and written for batches; only a cold secret awaits, and limits
that are counted elsewhere.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

from keystead.events.refusal_ports import RefusalCounters
from keystead.kernel.clock import Clock
from keystead.kernel.errors import UnavailableError
from keystead.kernel.ids import SequentialIds
from keystead.keys import addresses
from keystead.keys.model import KeyState, SecretStatus
from keystead.keys.principal import Principal
from keystead.limits.model import Metered
from keystead.scopes import expression
from keystead.tenants.model import Environment
from keystead.usage.errors import JournalFullError
from keystead.usage.model import CODE_NUMBERS
from keystead.usage.ports import AttemptCounters, Journal
from keystead.verification.cache import NEVER_MS, Entry, environment_named
from keystead.verification.errors import StaleError
from keystead.verification.failures import NOWHERE, Failures
from keystead.verification.last_use import LastUses
from keystead.verification.limiting import Limited, Limiter
from keystead.verification.measures import SAMPLED_EVERY, VerificationMeasures
from keystead.verification.model import Code
from keystead.verification.resolver import Resolved, SecretResolver
from keystead.verification.waiting import side_by_side

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
_TRIES_MAX = 5


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

    __slots__ = ("code", "degraded", "entry", "limited", "missing_scopes", "now_ms", "verification_id")

    def __init__(
        self,
        code: Code,
        now_ms: int,
        entry: Entry | None = None,
        missing_scopes: tuple[str, ...] = (),
    ) -> None:
        """Answer ``code`` at ``now_ms``; it gets its id when it is final."""
        self.code = code
        self.verification_id = ""
        self.now_ms = now_ms
        self.entry = entry
        self.missing_scopes = missing_scopes
        self.degraded = False
        self.limited: Limited | None = None

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
        refusals: RefusalCounters,
        limiter: Limiter,
    ) -> None:
        """Find entries with ``resolver``, note good secrets in ``uses``, write verdicts of keys to ``journal``.

        Verdicts about no key of the caller's are counted in ``attempts``, and those with every other that authenticated
        nobody in ``refusals``; ``limiter`` has the last word.
        """
        self._resolver = resolver
        self._uses = uses
        self._journal = journal
        self._failures = Failures(attempts, refusals)
        self._clock = clock
        self._ids = ids
        self._limiter = limiter
        self.measures = VerificationMeasures()

    async def verify(self, caller: Principal, request: VerifyRequest) -> Verdict:
        """Give one verdict; raise ``StaleError``, ``OverloadedError`` or ``UnavailableError`` when there is none."""
        begun = self.begin(caller, request)
        if begun is None:
            return await self._cold(caller, request)
        return begun if isinstance(begun, Verdict) else await begun

    def begin(self, caller: Principal, request: VerifyRequest) -> Verdict | Coroutine[Any, Any, Verdict] | None:
        """Give the verdict at once when nothing has to be awaited; None for a secret not proven in this process yet.

        Else return the rest of the way, to be awaited: the limits, which are counted elsewhere. Nothing is counted or
        spent before.
        """
        measures = self.measures
        measures.asked += 1
        began_ns = 0 if measures.asked % SAMPLED_EVERY else self._clock.monotonic_ns()
        entry = self._known(request)
        if entry is None:
            return None
        verdict = self._judged(caller, request, entry)
        metered = entry.metered
        if metered is not None and verdict.code is Code.VALID:
            limited = self._limiter.decide_now(metered, cost=request.cost, peek=request.peek)
            if limited is None:
                return self._limited(caller, request, verdict, metered, _TRIES_MAX)
            _take_limited(verdict, limited)
        self._write_down(caller, request, verdict)
        if began_ns:
            measures.warm.observe(self._clock.monotonic_ns() - began_ns)
        return verdict

    async def verify_batch(self, caller: Principal, requests: Sequence[VerifyRequest]) -> list[Verdict]:
        """Give the verdicts in order, all or none: nothing is counted before every one of them is known.

        What awaits does so side by side, as much at once as a lane has room for.
        """
        self.measures.asked += len(requests)
        found: list[Resolved] = await side_by_side(
            [self._known(request) or self._find(caller, request) for request in requests]
        )
        verdicts = [self._judged(caller, request, it) for request, it in zip(requests, found, strict=True)]
        try:
            await side_by_side([self._limit(request, it) for request, it in zip(requests, verdicts, strict=True)])
            anew: dict[int, Verdict] = {}
            for index in [index for index, verdict in enumerate(verdicts) if not self._holds(verdict)]:
                anew[index] = await self._again(caller, requests[index], verdicts[index], _TRIES_MAX)
        except BaseException:
            self._put_back(verdicts)
            raise
        for index, verdict in enumerate(verdicts):
            if index not in anew:
                self._write_down(caller, requests[index], verdict)
        return [anew.get(index, verdict) for index, verdict in enumerate(verdicts)]

    def _limit(self, request: VerifyRequest, verdict: Verdict) -> Coroutine[Any, Any, None] | None:
        """Ask the limits of a call that passed everything else; return what has to be awaited of that."""
        entry = verdict.entry
        if entry is None or entry.metered is None or verdict.code is not Code.VALID:
            return None
        limited = self._limiter.decide_now(entry.metered, cost=request.cost, peek=request.peek)
        if limited is None:
            return self._limit_later(request, verdict, entry.metered)
        _take_limited(verdict, limited)
        return None

    async def _limit_later(self, request: VerifyRequest, verdict: Verdict, metered: Metered) -> None:
        _take_limited(verdict, await self._limiter.decide(metered, cost=request.cost, peek=request.peek))
        # Dated when it is written down, not before the wait: usage is told to be complete up to a moment.
        verdict.now_ms = self._clock.now_ms()

    async def _limited(
        self, caller: Principal, request: VerifyRequest, verdict: Verdict, metered: Metered, tries: int
    ) -> Verdict:
        """Ask the limits of a call that passed everything else, and write the verdict down."""
        if not tries:
            text = "This key is being changed faster than it can be verified; try again."
            raise UnavailableError(text, internal="limits overtaken by changes")
        await self._limit_later(request, verdict, metered)
        try:
            holds = self._holds(verdict)
        except StaleError:
            self._put_back([verdict])
            raise
        if holds:
            self._write_down(caller, request, verdict)
            return verdict
        return await self._again(caller, request, verdict, tries)

    def _holds(self, verdict: Verdict) -> bool:
        """Say whether what was admitted after a wait may be (P3); raise ``StaleError`` when nobody can tell."""
        entry = verdict.entry
        if entry is None or verdict.code is not Code.VALID:
            return True
        ends_at_ms = min(entry.ends_at_ms, entry.plan_ends_at_ms)
        return self._resolver.confirm(entry) and verdict.now_ms < ends_at_ms

    async def _again(self, caller: Principal, request: VerifyRequest, before: Verdict, tries: int) -> Verdict:
        """Judge anew what was touched, or ended, while its limits were asked.

        What they said stands when they are the same still, so nothing is spent twice; else it is put back.
        """
        try:
            verdict = self._judged(caller, request, await self._find(caller, request))
        except BaseException:
            self._put_back([before])
            raise
        metered = verdict.entry.metered if verdict.entry is not None and verdict.code is Code.VALID else None
        limited, old = before.limited, before.entry
        if metered is not None and limited is not None and old is not None and metered.same_as(old.metered):
            _take_limited(verdict, limited)
            self._write_down(caller, request, verdict)
            before.limited = None  # counted now, so nothing of it is put back, whatever becomes of the rest of a batch
            return verdict
        self._put_back([before])
        return await self._concluded(caller, request, verdict, metered, tries - 1)

    def _put_back(self, verdicts: Sequence[Verdict]) -> None:
        for verdict in verdicts:
            if verdict.limited is not None:
                self._limiter.put_back(verdict.limited)

    def _known(self, request: VerifyRequest) -> Entry | None:
        """Return the entry of a secret that this process has proven before, if it is good still."""
        resolver = self._resolver
        entry = resolver.warm(resolver.digest(request.key))
        if entry is None or (entry.plan_ends_at_ms != NEVER_MS and self._clock.now_ms() >= entry.plan_ends_at_ms):
            self.measures.absent += 1
            return None
        return entry

    async def _cold(self, caller: Principal, request: VerifyRequest) -> Verdict:
        verdict = self._judged(caller, request, await self._find(caller, request))
        metered = verdict.entry.metered if verdict.entry is not None and verdict.code is Code.VALID else None
        return await self._concluded(caller, request, verdict, metered, _TRIES_MAX)

    async def _concluded(
        self, caller: Principal, request: VerifyRequest, verdict: Verdict, metered: Metered | None, tries: int
    ) -> Verdict:
        """Ask the limits, if there are any to ask, and write the verdict down."""
        if metered is not None:
            return await self._limited(caller, request, verdict, metered, tries)
        self._write_down(caller, request, verdict)
        return verdict

    async def _find(self, caller: Principal, request: VerifyRequest) -> Resolved:
        """Find a secret that this process does not know; what is not the caller's ends before any I/O."""
        resolver = self._resolver
        self.measures.misses += 1
        parsed = resolver.parse(request.key)
        if isinstance(parsed, Code):
            return parsed
        text, master_id = parsed
        if text.brand != caller.brand:
            return Code.NOT_FOUND
        if caller.environment is not Environment.ALL and environment_named(text.environment) is not caller.environment:
            return Code.WRONG_ENVIRONMENT
        began_ns = self._clock.monotonic_ns()
        found = await resolver.cold(resolver.digest(request.key), text, master_id)
        self.measures.cold.observe(self._clock.monotonic_ns() - began_ns)
        return found

    def _judged(self, caller: Principal, request: VerifyRequest, found: Resolved) -> Verdict:
        """Walk the line from state to scope over what was found; nothing is counted yet."""
        now_ms = self._clock.now_ms()
        if isinstance(found, Code):
            return Verdict(found, now_ms)
        if found.workspace_id != caller.workspace_id or found.own:
            return Verdict(Code.NOT_FOUND, now_ms)
        if caller.environment is not Environment.ALL and found.environment is not caller.environment:
            return Verdict(Code.WRONG_ENVIRONMENT, now_ms)
        code = Code.VALID
        missing: tuple[str, ...] = ()
        if not found.usable or now_ms >= found.ends_at_ms:
            code = _state_code(found, now_ms)
        elif found.environment is not request.environment:
            code = Code.WRONG_ENVIRONMENT
        elif found.networks and not addresses.contains(found.networks, request.client_ip):
            code = Code.IP_NOT_ALLOWED
        elif missing := expression.missing(request.scope_expression, found.grants):
            code = Code.INSUFFICIENT_SCOPE
        return Verdict(code, now_ms, found, missing)

    def _write_down(self, caller: Principal, request: VerifyRequest, verdict: Verdict) -> None:
        """Name a verdict and count it before its answer leaves; when that cannot be, there is no answer either (P5)."""
        verdict.verification_id = self._ids.next(verdict.now_ms)
        if not request.peek:
            entry = verdict.entry
            if entry is None:
                self._failures.count_unknown(caller, request, code=verdict.code, at_ms=verdict.now_ms)
            else:
                self._journal_call(caller, entry, request, verdict)
        if self._resolver.serves_stale and self._resolver.degraded:
            verdict.degraded = True
            self.measures.degraded += 1
        self.measures.verdicts[verdict.code] += 1

    def _journal_call(self, caller: Principal, entry: Entry, request: VerifyRequest, verdict: Verdict) -> None:
        code, at_ms = verdict.code, verdict.now_ms
        place = NOWHERE
        try:
            if code is not Code.VALID:
                place = self._failures.room_for(caller, request, code=code, key_id=entry.key_id, at_ms=at_ms)
            self._journal.append(
                entry,
                code=_CODE_NUMBERS[code],
                at_ms=at_ms,
                ordinal=self._ids.last_ordinal,
                cost=request.cost,
                operation=request.operation,
                client_ip=request.client_ip,
                scope_expression=request.scope_expression,
                tags=request.tags,
            )
        except JournalFullError:
            self._put_back([verdict])
            raise
        if code is Code.VALID:
            self._uses.note(entry, at_ms)
        else:
            self._failures.add(place, at_ms)


def _take_limited(verdict: Verdict, limited: Limited) -> None:
    verdict.limited = limited
    verdict.degraded = limited.degraded
    if not limited.admitted:
        verdict.code = Code.RATE_LIMITED if limited.by_rate else Code.QUOTA_EXCEEDED


def _state_code(entry: Entry, now_ms: int) -> Code:
    """Say why an unusable entry is refused, in the order of DESIGN §4."""
    if entry.state is KeyState.REVOKED:
        return Code.REVOKED
    if entry.state is KeyState.SUSPENDED:
        return Code.SUSPENDED
    if now_ms >= entry.ends_at_ms:
        return Code.EXPIRED
    return Code.SUSPENDED
