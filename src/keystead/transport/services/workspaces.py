"""The handlers of ``WorkspaceService``."""

from __future__ import annotations

from keystead.gen.v1 import workspaces_pb2
from keystead.kernel.clock import Clock
from keystead.kernel.paging import PageTokens
from keystead.keys.model import KeyKind
from keystead.keys.tenancy import TenancyService
from keystead.keys.tiers import TierService
from keystead.tenants.service import WorkspaceDraft, WorkspaceService
from keystead.transport.context import Context
from keystead.transport.services import conversions, messages, tiers


class WorkspaceHandlers:
    """Serves ``keystead.v1.WorkspaceService``."""

    def __init__(
        self,
        workspaces: WorkspaceService,
        tier_service: TierService,
        tenancy: TenancyService,
        page_tokens: PageTokens,
        clock: Clock,
    ) -> None:
        """Call ``workspaces``, ``tier_service`` to change them, and ``tenancy`` where keys are touched."""
        self._workspaces = workspaces
        self._tiers = tier_service
        self._tenancy = tenancy
        self._page_tokens = page_tokens
        self._clock = clock

    async def create_workspace(
        self, context: Context, request: workspaces_pb2.CreateWorkspaceRequest
    ) -> workspaces_pb2.CreateWorkspaceResponse:
        """Make a workspace."""
        workspace, key, secret = await self._tenancy.create_workspace(
            context.unit, brand=request.brand, name=request.name, created_by=context.caller.key_id
        )
        return workspaces_pb2.CreateWorkspaceResponse(
            workspace=messages.workspace_message(workspace),
            management_key=messages.key_message(key, self._clock.now_ms()),
            secret=secret.reveal(),
        )

    async def get_workspace(
        self, context: Context, request: workspaces_pb2.GetWorkspaceRequest
    ) -> workspaces_pb2.GetWorkspaceResponse:
        """Return a workspace; a management key's own when none is named."""
        workspace_id = request.workspace_id
        if not workspace_id and context.caller.kind is KeyKind.MANAGEMENT:
            workspace_id = context.caller.workspace_id
        conversions.demand_id("workspace_id", workspace_id, "wsp")
        workspace = await self._workspaces.get(context.unit, workspace_id)
        return workspaces_pb2.GetWorkspaceResponse(workspace=messages.workspace_message(workspace))

    async def list_workspaces(
        self, context: Context, request: workspaces_pb2.ListWorkspacesRequest
    ) -> workspaces_pb2.ListWorkspacesResponse:
        """List workspaces."""
        question = conversions.question_of(request, context.caller)
        page_request = self._page_tokens.request(
            page_size=request.page_size, page_token=request.page_token, question=question, ascending=False
        )
        page = await context.unit.workspaces.page(page_request)
        return workspaces_pb2.ListWorkspacesResponse(
            workspaces=[messages.workspace_message(workspace) for workspace in page.items],
            next_page_token=self._page_tokens.token(page.next_position, question),
        )

    async def update_workspace(
        self, context: Context, request: workspaces_pb2.UpdateWorkspaceRequest
    ) -> workspaces_pb2.UpdateWorkspaceResponse:
        """Change a workspace."""
        wanted = request.workspace
        workspace = await self._tiers.update_workspace(
            context.unit,
            context.caller,
            conversions.demand_id("workspace.id", wanted.id, "wsp"),
            WorkspaceDraft(
                name=wanted.name,
                default_plan_id=tiers.plan_reference("workspace.default_plan_id", wanted.default_plan_id),
                audit_retention_days=wanted.audit_retention_days,
            ),
            mask=frozenset(request.update_mask.paths),
            etag=wanted.etag,
        )
        return workspaces_pb2.UpdateWorkspaceResponse(workspace=messages.workspace_message(workspace))

    async def delete_workspace(
        self, context: Context, request: workspaces_pb2.DeleteWorkspaceRequest
    ) -> workspaces_pb2.DeleteWorkspaceResponse:
        """Delete a workspace."""
        workspace_id = conversions.demand_id("workspace_id", request.workspace_id, "wsp")
        await self._tenancy.delete_workspace(context.unit, workspace_id, etag=request.etag)
        return workspaces_pb2.DeleteWorkspaceResponse()
