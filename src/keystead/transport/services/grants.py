"""The handler of ``ListUnusedGrants``, which holds keys against their usage: it reads keys inside the unit of work."""

from __future__ import annotations

from keystead.gen.v1 import usage_pb2
from keystead.kernel.errors import invalid
from keystead.kernel.paging import PageTokens
from keystead.keys.unused import UnusedGrant, UnusedGrants
from keystead.tenants.model import Environment
from keystead.transport.context import Context
from keystead.transport.services import conversions
from keystead.usage.retention import USES_DAYS_MAX

_DAY_MS = 86_400_000
_DAYS_DEFAULT = 30


class GrantHandlers:
    """Serves what of ``keystead.v1.UsageService`` is about keys."""

    def __init__(self, grants: UnusedGrants, page_tokens: PageTokens) -> None:
        """Ask ``grants``."""
        self._grants = grants
        self._page_tokens = page_tokens

    async def list_unused_grants(
        self, context: Context, request: usage_pb2.ListUnusedGrantsRequest
    ) -> usage_pb2.ListUnusedGrantsResponse:
        """List what keys did not use."""
        question = conversions.question_of(request, context.caller)
        page_request = self._page_tokens.request(
            page_size=request.page_size, page_token=request.page_token, question=question, ascending=True
        )
        page = await self._grants.page(
            context.unit,
            conversions.demand_walls(context.caller),
            page_request,
            unused_for_ms=_unused_for_ms(request),
            owner_id=conversions.demand_owner_id(request.owner_id) if request.owner_id else "",
            environment=_environment(context, request),
        )
        return usage_pb2.ListUnusedGrantsResponse(
            grants=[_grant(it) for it in page.items],
            next_page_token=self._page_tokens.token(page.next_position, question),
        )


def _unused_for_ms(request: usage_pb2.ListUnusedGrantsRequest) -> int:
    found_ms = conversions.duration_ms("unused_for", request, request.unused_for)
    if found_ms is None:
        return _DAYS_DEFAULT * _DAY_MS
    if found_ms % _DAY_MS or not _DAY_MS <= found_ms <= USES_DAYS_MAX * _DAY_MS or request.unused_for.nanos:
        raise invalid("unused_for", f"must be whole days, 1 to {USES_DAYS_MAX}")
    return found_ms


def _environment(context: Context, request: usage_pb2.ListUnusedGrantsRequest) -> Environment | None:
    environment = conversions.chosen("environment", request.environment, conversions.ENVIRONMENTS)
    if environment is Environment.ALL:
        raise invalid("environment", "must be LIVE or TEST")
    if environment is not None:
        context.caller.demand_environment(environment)
    return environment


def _grant(found: UnusedGrant) -> usage_pb2.UnusedGrant:
    key = found.key
    return usage_pb2.UnusedGrant(
        key_id=key.id,
        owner_id=key.owner_id,
        name=key.name,
        environment=conversions.ENVIRONMENT_NUMBERS[key.environment],
        idle=found.idle,
        scopes=found.scopes,
        last_used_at=conversions.timestamp(key.last_used_at_ms),
    )
