"""The handlers of ``PlanService``, but for the simulation, and of what gives an owner a plan from outside."""

from __future__ import annotations

from keystead.gen.v1 import entitlements_pb2, plans_pb2
from keystead.kernel.errors import invalid
from keystead.kernel.paging import PageTokens
from keystead.keys.tiers import TierService
from keystead.limits.service import PlanDraft, PlanService
from keystead.transport.context import Context
from keystead.transport.services import conversions, messages, tiers


class PlanHandlers:
    """Serves ``keystead.v1.PlanService``."""

    def __init__(self, plans: PlanService, changing: TierService, page_tokens: PageTokens) -> None:
        """Ask ``plans``; change them by ``changing``, which demands a caller for both environments."""
        self._plans = plans
        self._changing = changing
        self._page_tokens = page_tokens

    async def create_plan(self, context: Context, request: plans_pb2.CreatePlanRequest) -> plans_pb2.CreatePlanResponse:
        """Make a plan."""
        plan = await self._changing.create_plan(context.unit, context.caller, _draft_of(request))
        return plans_pb2.CreatePlanResponse(plan=tiers.plan_message(plan))

    async def get_plan(self, context: Context, request: plans_pb2.GetPlanRequest) -> plans_pb2.GetPlanResponse:
        """Return a plan."""
        reference = tiers.demand_plan_reference("plan_id", request.plan_id)
        plan = await self._plans.get(context.unit, context.caller.workspace_id, reference)
        return plans_pb2.GetPlanResponse(plan=tiers.plan_message(plan))

    async def list_plans(self, context: Context, request: plans_pb2.ListPlansRequest) -> plans_pb2.ListPlansResponse:
        """List plans by name."""
        question = conversions.question_of(request, context.caller)
        page_request = self._page_tokens.request(
            page_size=request.page_size, page_token=request.page_token, question=question, ascending=True
        )
        page = await context.unit.plans.page(context.caller.workspace_id, page_request)
        return plans_pb2.ListPlansResponse(
            plans=[tiers.plan_message(plan) for plan in page.items],
            next_page_token=self._page_tokens.token(page.next_position, question),
        )

    async def update_plan(self, context: Context, request: plans_pb2.UpdatePlanRequest) -> plans_pb2.UpdatePlanResponse:
        """Change a plan."""
        plan = await self._changing.update_plan(
            context.unit,
            context.caller,
            tiers.demand_plan_reference("plan.id", request.plan.id),
            _draft_of(request.plan, prefix="plan."),
            mask=frozenset(request.update_mask.paths),
            etag=request.plan.etag,
        )
        return plans_pb2.UpdatePlanResponse(plan=tiers.plan_message(plan))

    async def delete_plan(self, context: Context, request: plans_pb2.DeletePlanRequest) -> plans_pb2.DeletePlanResponse:
        """Delete a plan that nobody refers to."""
        reference = tiers.demand_plan_reference("plan_id", request.plan_id)
        await self._changing.delete_plan(context.unit, context.caller, reference, etag=request.etag)
        return plans_pb2.DeletePlanResponse()

    async def preview_plan(
        self, context: Context, request: plans_pb2.PreviewPlanRequest
    ) -> plans_pb2.PreviewPlanResponse:
        """Say whom a plan applies to."""
        reference = tiers.demand_plan_reference("plan_id", request.plan_id)
        uses, reach = await self._plans.preview(context.unit, context.caller.workspace_id, reference)
        return plans_pb2.PreviewPlanResponse(
            keys=uses.keys,
            owners=uses.owners,
            affected_keys=reach.affected_keys,
            sample_owner_ids=reach.sample_owner_ids,
            is_default=uses.is_default,
        )


class EntitlingHandlers:
    """Serves the method of ``keystead.v1.EntitlementService`` that changes something."""

    def __init__(self, changing: TierService) -> None:
        """Change owners by ``changing``."""
        self._changing = changing

    async def apply_entitlement(
        self, context: Context, request: entitlements_pb2.ApplyEntitlementRequest
    ) -> entitlements_pb2.ApplyEntitlementResponse:
        """Give an owner a plan until some time."""
        owner = await self._changing.entitle(
            context.unit,
            context.caller,
            conversions.demand_owner_id(request.owner_id),
            tiers.plan_reference("plan_id", request.plan_id),
            until_ms=conversions.moment_ms("until", request, request.until),
        )
        return entitlements_pb2.ApplyEntitlementResponse(owner=messages.owner_message(owner))


def _draft_of(wanted: plans_pb2.CreatePlanRequest | plans_pb2.Plan, *, prefix: str = "") -> PlanDraft:
    rotate_every_ms = tiers.whole_ms(f"{prefix}rotate_every", wanted.rotate_every)
    if wanted.HasField("rotate_every") and not rotate_every_ms:
        raise invalid(f"{prefix}rotate_every", "must be 1 hour to 4,000 days, or absent")
    return PlanDraft(
        name=wanted.name,
        description=wanted.description,
        limits=tiers.limits_of(f"{prefix}limits", wanted.limits),
        max_keys_per_owner=wanted.max_keys_per_owner,
        rotate_every_ms=rotate_every_ms,
        suspend_overdue=wanted.suspend_overdue,
        on_limiter_outage=tiers.outage_policy(f"{prefix}on_limiter_outage", wanted.on_limiter_outage),
    )
