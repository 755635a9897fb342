"""Counts what was refused: verdicts that authenticated nobody, and calls of Keystead's own methods.

Whatever is refused costs a counter and no row, and what succeeds costs nothing. A place is found before anything else
is counted of an answer, so that one that cannot be counted is counted nowhere.
"""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from keystead.events.refusal_ports import RefusalCounters
from keystead.events.refusals import Refusing
from keystead.kernel.change import Action
from keystead.kernel.clock import Clock
from keystead.keys import secret_format
from keystead.keys.errors import PermissionDeniedError, RefusedFor, UnauthenticatedError
from keystead.keys.principal import Principal
from keystead.tenants.model import SYSTEM_WORKSPACE_ID, Environment
from keystead.usage.model import CODE_NUMBERS
from keystead.usage.ports import AttemptCounters
from keystead.verification.model import Code

NOWHERE = -1

_CODE_NUMBERS = {code: CODE_NUMBERS[code.value] for code in Code}
# Of a key that was found; what else is refused was authenticated, and is told in usage alone.
_UNAUTHENTICATED = frozenset({Code.REVOKED, Code.SUSPENDED, Code.EXPIRED, Code.WRONG_ENVIRONMENT, Code.IP_NOT_ALLOWED})


class Presented(Protocol):
    """What was asked about."""

    @property
    def key(self) -> str:
        """The text that should be a secret."""
        ...

    @property
    def environment(self) -> Environment:
        """The environment asked for."""
        ...

    @property
    def client_ip(self) -> str:
        """Where the one who presented it is, as the caller says."""
        ...


class Failures:
    """Failed authentications of one process."""

    def __init__(self, attempts: AttemptCounters, refusals: RefusalCounters) -> None:
        """Count all in ``refusals``, and in ``attempts`` those about no key, which no journal has."""
        self._attempts = attempts
        self._refusals = refusals

    def count_unknown(self, caller: Principal, presented: Presented, *, code: Code, at_ms: int) -> None:
        """Count a verdict about no key of the caller's; of the text only brand and environment are kept (P1)."""
        text = secret_format.parse(presented.key)
        brand, environment = (text.brand, text.environment) if text else ("", "")
        refusing = Refusing(
            caller.workspace_id,
            presented.environment,
            Action.AUTHENTICATION_FAILED,
            code.value,
            presented.client_ip,
            presented=f"{brand}_{environment}" if text else "",
        )
        place = self._refusals.room_for(refusing, at_ms)
        self._attempts.count(
            workspace_id=caller.workspace_id,
            environment=presented.environment,
            brand=brand,
            secret_environment=environment,
            code=_CODE_NUMBERS[code],
            client_ip=presented.client_ip,
            at_ms=at_ms,
        )
        self._refusals.add(place, at_ms)

    def room_for(self, caller: Principal, presented: Presented, *, code: Code, key_id: str, at_ms: int) -> int:
        """Return where to ``add`` a verdict about a key that was found; nowhere when it was authenticated.

        Raises ``JournalFullError`` when it cannot be counted and must be.
        """
        if code not in _UNAUTHENTICATED:
            return NOWHERE
        text = secret_format.parse(presented.key)
        refusing = Refusing(
            caller.workspace_id,
            presented.environment,
            Action.AUTHENTICATION_FAILED,
            code.value,
            presented.client_ip,
            # Who reads the events of one environment learns nothing of the other's keys (P8).
            target="" if code is Code.WRONG_ENVIRONMENT else key_id,
            presented=f"{text.brand}_{text.environment}" if text else "",
        )
        return self._refusals.room_for(refusing, at_ms)

    def add(self, place: int, at_ms: int) -> None:
        """Count one at a place."""
        self._refusals.add(place, at_ms)


class RefusedCalls:
    """Refused calls of one process. ``by_reason`` is how many there were since it started."""

    def __init__(self, counters: RefusalCounters, clock: Clock) -> None:
        """Count in ``counters``."""
        self.by_reason: Counter[RefusedFor] = Counter()
        self._counters = counters
        self._clock = clock

    def count(
        self,
        refused: UnauthenticatedError | PermissionDeniedError,
        *,
        caller: Principal | None,
        method: str,
        client_ip: str,
    ) -> None:
        """Count one before its answer leaves; raise ``JournalFullError`` when it cannot be and must be.

        Who is not proven to be anybody concerns the system's own workspace.
        """
        key_id, workspace_id, environment = "", SYSTEM_WORKSPACE_ID, ""
        if isinstance(refused, UnauthenticatedError):
            if refused.proven is not None:
                key_id, workspace_id, environment = refused.proven
        elif caller is not None:
            key_id, workspace_id, environment = caller.key_id, caller.workspace_id, caller.environment
        at_ms = self._clock.now_ms()
        refusing = Refusing(
            workspace_id,
            environment,
            Action.CALL_REFUSED,
            refused.refused_for.value,
            client_ip,
            actor_id=key_id,
            method=method,
        )
        self._counters.add(self._counters.room_for(refusing, at_ms), at_ms)
        self.by_reason[refused.refused_for] += 1
