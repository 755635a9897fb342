"""What can be refused about workspaces and owners."""

from __future__ import annotations

from keystead.kernel.errors import AlreadyExistsError, EtagMismatchError, KeysteadError, NotFoundError

__all__ = ["AlreadyExistsError", "EtagMismatchError", "NotFoundError", "WorkspaceNotEmptyError"]


class WorkspaceNotEmptyError(KeysteadError):
    """Raised when a workspace still has keys that work."""

    code = "workspace_not_empty"

    def __init__(self, workspace_id: str, keys: int) -> None:
        """Say how many keys stand in the way."""
        super().__init__(
            public=f"Workspace {workspace_id} still has {keys} keys that are not revoked; revoke them first."
        )
