"""The handlers of ``OwnerService``."""

from __future__ import annotations

from keystead.gen.v1 import owners_pb2
from keystead.kernel.bounds import Bounds
from keystead.kernel.errors import invalid
from keystead.kernel.paging import PageTokens
from keystead.keys.tenancy import TenancyService
from keystead.keys.tiers import TierService
from keystead.tenants.service import OwnerDraft, OwnerService
from keystead.transport.context import Context
from keystead.transport.services import conversions, messages, tiers

_QUERY_CHARACTERS = 100
_ORDERS = {"": False, "created_at desc": False, "created_at asc": True}


class OwnerHandlers:
    """Serves ``keystead.v1.OwnerService``."""

    def __init__(
        self, owners: OwnerService, tier_service: TierService, tenancy: TenancyService, page_tokens: PageTokens
    ) -> None:
        """Call ``owners``, ``tier_service`` where they get plans and limits, and ``tenancy`` where keys are touched."""
        self._owners = owners
        self._tiers = tier_service
        self._tenancy = tenancy
        self._page_tokens = page_tokens

    async def create_owner(
        self, context: Context, request: owners_pb2.CreateOwnerRequest
    ) -> owners_pb2.CreateOwnerResponse:
        """Make an owner."""
        owner = await self._tiers.create_owner(context.unit, context.caller, _draft_of(request))
        return owners_pb2.CreateOwnerResponse(owner=messages.owner_message(owner))

    async def get_owner(self, context: Context, request: owners_pb2.GetOwnerRequest) -> owners_pb2.GetOwnerResponse:
        """Return an owner."""
        owner = await self._owners.get(context.unit, conversions.demand_owner_id(request.owner_id))
        return owners_pb2.GetOwnerResponse(owner=messages.owner_message(owner))

    async def list_owners(
        self, context: Context, request: owners_pb2.ListOwnersRequest
    ) -> owners_pb2.ListOwnersResponse:
        """List owners."""
        bounds = Bounds()
        bounds.text("query", request.query, at_most=_QUERY_CHARACTERS)
        bounds.raise_if_any()
        if request.order_by not in _ORDERS:
            raise invalid("order_by", "must be `created_at desc` or `created_at asc`")
        question = conversions.question_of(request, context.caller)
        page_request = self._page_tokens.request(
            page_size=request.page_size,
            page_token=request.page_token,
            question=question,
            ascending=_ORDERS[request.order_by],
        )
        suspended = request.suspended if request.HasField("suspended") else None
        page = await context.unit.owners.page(page_request, query=request.query, suspended=suspended)
        return owners_pb2.ListOwnersResponse(
            owners=[messages.owner_message(owner) for owner in page.items],
            next_page_token=self._page_tokens.token(page.next_position, question),
        )

    async def update_owner(
        self, context: Context, request: owners_pb2.UpdateOwnerRequest
    ) -> owners_pb2.UpdateOwnerResponse:
        """Change an owner."""
        owner = await self._tiers.update_owner(
            context.unit,
            context.caller,
            _draft_of(request.owner, prefix="owner."),
            mask=frozenset(request.update_mask.paths),
            etag=request.owner.etag,
            allow_missing=request.allow_missing,
        )
        return owners_pb2.UpdateOwnerResponse(owner=messages.owner_message(owner))

    async def suspend_owner(
        self, context: Context, request: owners_pb2.SuspendOwnerRequest
    ) -> owners_pb2.SuspendOwnerResponse:
        """Suspend an owner."""
        owner_id = conversions.demand_owner_id(request.owner_id)
        owner = await self._tenancy.set_suspended(
            context.unit, context.caller, owner_id, suspended=True, reason=request.reason
        )
        return owners_pb2.SuspendOwnerResponse(owner=messages.owner_message(owner))

    async def resume_owner(
        self, context: Context, request: owners_pb2.ResumeOwnerRequest
    ) -> owners_pb2.ResumeOwnerResponse:
        """End an owner's suspension."""
        owner_id = conversions.demand_owner_id(request.owner_id)
        owner = await self._tenancy.set_suspended(context.unit, context.caller, owner_id, suspended=False)
        return owners_pb2.ResumeOwnerResponse(owner=messages.owner_message(owner))

    async def delete_owner(
        self, context: Context, request: owners_pb2.DeleteOwnerRequest
    ) -> owners_pb2.DeleteOwnerResponse:
        """Delete an owner with its keys."""
        owner_id = conversions.demand_owner_id(request.owner_id)
        revoked = await self._tenancy.delete_owner(
            context.unit, context.caller, owner_id, reason=request.reason, etag=request.etag
        )
        return owners_pb2.DeleteOwnerResponse(revoked_keys=revoked)


def _draft_of(wanted: owners_pb2.CreateOwnerRequest | owners_pb2.Owner, *, prefix: str = "") -> OwnerDraft:
    return OwnerDraft(
        wanted.owner_id,
        wanted.name,
        dict(wanted.metadata),
        plan_id=tiers.plan_reference(f"{prefix}plan_id", wanted.plan_id),
        limits=tiers.limits_of(f"{prefix}limits", wanted.limits),
    )
