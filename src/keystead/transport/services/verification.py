"""The handlers of ``VerificationService``: the hot path's two ends."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

from keystead.gen.v1 import keys_pb2, verification_pb2
from keystead.kernel.bounds import Bounds, has_control_characters
from keystead.kernel.errors import KeysteadError, invalid
from keystead.keys.addresses import parse_address
from keystead.keys.principal import Principal
from keystead.scopes import expression
from keystead.tenants.model import Environment
from keystead.transport.services import conversions, levels
from keystead.verification.limiting import Limited
from keystead.verification.model import Code
from keystead.verification.service import HTTP_STATUS, Verdict, VerificationService, VerifyRequest

KEY_CHARACTERS = 512
BATCH_MAX = 1_000
OPERATION_CHARACTERS = 100
_REQUEST_ID_CHARACTERS = 128
COST_MAX = 1_000_000
TAGS_MAX = 20
TAG_CHARACTERS = 64

_CODES = {code: verification_pb2.VerifyKeyResponse.Code.Value(code.value) for code in Code}
_ENVIRONMENTS: dict[int, Environment] = {keys_pb2.Key.LIVE: Environment.LIVE, keys_pb2.Key.TEST: Environment.TEST}


class VerificationHandlers:
    """Serves ``keystead.v1.VerificationService``; needs no unit of work."""

    def __init__(self, verification: VerificationService) -> None:
        """Call ``verification``."""
        self._verification = verification

    def verify_now(
        self, caller: Principal, request: verification_pb2.VerifyKeyRequest
    ) -> bytes | Coroutine[Any, Any, bytes] | None:
        """Answer without awaiting, or return what has to be awaited; None for a secret not proven here yet."""
        begun = self._verification.begin(caller, asked_of(caller, request))
        if isinstance(begun, Verdict):
            return reply_of(begun).SerializeToString()
        return None if begun is None else _reply_later(begun)

    async def verify_key(
        self, caller: Principal, request: verification_pb2.VerifyKeyRequest, headers: dict[str, str] | None = None
    ) -> verification_pb2.VerifyKeyResponse:
        """Give one verdict; where its limits stand is added to ``headers``."""
        verdict = await self._verification.verify(caller, asked_of(caller, request))
        if headers is not None and verdict.limited is not None:
            headers.update(levels.limit_headers(verdict.limited))
        return reply_of(verdict)

    async def batch_verify(
        self, caller: Principal, request: verification_pb2.BatchVerifyRequest
    ) -> verification_pb2.BatchVerifyResponse:
        """Give the verdicts in order."""
        if len(request.requests) > BATCH_MAX:
            raise invalid("requests", f"must have at most {BATCH_MAX} entries, not {len(request.requests)}")
        asked = [_asked_at(caller, index, item) for index, item in enumerate(request.requests)]
        verdicts = await self._verification.verify_batch(caller, asked)
        return verification_pb2.BatchVerifyResponse(responses=[reply_of(verdict) for verdict in verdicts])


async def _reply_later(begun: Coroutine[Any, Any, Verdict]) -> bytes:
    return reply_of(await begun).SerializeToString()


def asked_of(caller: Principal, request: verification_pb2.VerifyKeyRequest) -> VerifyRequest:
    """Read a request; raise when it breaks a bound, or asks for an environment that is not the caller's."""
    if request.HasField("resource"):
        conversions.refuse_set(request, "resource")
    if len(request.key) > KEY_CHARACTERS:
        raise invalid("key", f"must be at most {KEY_CHARACTERS} characters")
    if request.client_ip and parse_address(request.client_ip) is None:
        raise invalid("client_ip", "must be an IPv4 or IPv6 address, without port or zone")
    request_id = request.request_id
    if request_id and (len(request_id) > _REQUEST_ID_CHARACTERS or has_control_characters(request_id)):
        raise invalid("request_id", f"must be at most {_REQUEST_ID_CHARACTERS} printable characters")
    operation = request.operation
    if operation and (len(operation) > OPERATION_CHARACTERS or has_control_characters(operation)):
        raise invalid("operation", f"must be at most {OPERATION_CHARACTERS} printable characters")
    scope_expression = request.scope_expression
    if scope_expression:
        expression.parse(scope_expression)
    cost = request.cost if request.HasField("cost") else 1
    if cost > COST_MAX:
        raise invalid("cost", f"must be at most {COST_MAX}")
    tags = _tags_of(request.tags) if request.tags else ""
    environment = _environment_of(caller, request.environment)
    return VerifyRequest(
        request.key, environment, scope_expression, request.client_ip, operation, cost, tags, peek=request.peek
    )


def _tags_of(tags: Sequence[str]) -> str:
    """Write labels as usage keeps them: each once, in order, parted by line ends."""
    bounds = Bounds()
    bounds.texts("tags", tags, at_most_items=TAGS_MAX, at_most=TAG_CHARACTERS)
    bounds.raise_if_any()
    return "\n".join(sorted(set(tags)))


def _asked_at(caller: Principal, index: int, request: verification_pb2.VerifyKeyRequest) -> VerifyRequest:
    try:
        return asked_of(caller, request)
    except KeysteadError as error:
        raise error.inside(f"requests[{index}]") from None


def _environment_of(caller: Principal, number: int) -> Environment:
    if number == keys_pb2.Key.ENVIRONMENT_UNSPECIFIED:
        if caller.environment is Environment.ALL:
            raise invalid("environment", "must be LIVE or TEST: this management key is for both")
        return caller.environment
    environment = _ENVIRONMENTS.get(number)
    if environment is None:
        raise invalid("environment", "must be LIVE or TEST")
    caller.demand_environment(environment)
    return environment


def reply_of(verdict: Verdict) -> verification_pb2.VerifyKeyResponse:
    """Write a verdict."""
    code = verdict.code
    reply = verification_pb2.VerifyKeyResponse(
        valid=code is Code.VALID,
        code=_CODES[code],
        http_status=HTTP_STATUS[code],
        verification_id=verdict.verification_id,
        missing_scopes=verdict.missing_scopes,
        degraded=verdict.degraded,
    )
    entry = verdict.entry
    if entry is None:
        return reply
    if verdict.limited is not None:
        _tell_limits(reply, verdict.limited)
    reply.key_id = entry.key_id
    reply.owner_id = entry.owner_id
    reply.environment = conversions.ENVIRONMENT_NUMBERS[entry.environment]
    reply.name = entry.name
    reply.scopes.extend(entry.grants.scopes)
    if entry.metadata_names:
        reply.metadata.update(zip(entry.metadata_names, entry.metadata_values, strict=True))
    reply.secret_id = entry.secret_id
    if (status := verdict.secret_status) is not None:
        reply.secret_status = conversions.STATUS_NUMBERS[status]
    if entry.retires_at_ms is not None:
        reply.secret_retires_at.CopyFrom(conversions.moment(entry.retires_at_ms))
    if entry.expires_at_ms is not None:
        reply.expires_at.CopyFrom(conversions.moment(entry.expires_at_ms))
    return reply


def _tell_limits(reply: verification_pb2.VerifyKeyResponse, limited: Limited) -> None:
    levels.tell_states(reply.limits, limited.states)
    reply.binding_limit = limited.binding
    if limited.retry_after_us > 0:
        reply.retry_after.FromMicroseconds(limited.retry_after_us)
