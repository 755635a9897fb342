"""What can be refused about workspaces and owners."""

from __future__ import annotations

from keystead.kernel.errors import KeysteadError


class NotFoundError(KeysteadError):
    """Raised when there is no such thing, or none that the caller may know of: the two answer alike (P8)."""

    code = "not_found"

    def __init__(self, what: str, name: str) -> None:
        """Say what was looked for and under which name."""
        super().__init__(public=f"There is no {what} {name}.", metadata={"resource": what})


class AlreadyExistsError(KeysteadError):
    """Raised when something of that name is there already."""

    code = "already_exists"

    def __init__(self, what: str, name: str) -> None:
        """Say what is there already and under which name."""
        super().__init__(public=f"There is already a {what} {name}.", metadata={"resource": what})


class EtagMismatchError(KeysteadError):
    """Raised when a change was based on a version that is no longer the latest."""

    code = "etag_mismatch"

    def __init__(self, what: str, name: str) -> None:
        """Say what has changed meanwhile."""
        super().__init__(
            public=f"The {what} {name} has changed since it was read: read it again, then repeat the change."
        )


class WorkspaceNotEmptyError(KeysteadError):
    """Raised when a workspace still has keys that work."""

    code = "workspace_not_empty"

    def __init__(self, workspace_id: str, keys: int) -> None:
        """Say how many keys stand in the way."""
        super().__init__(
            public=f"Workspace {workspace_id} still has {keys} keys that are not revoked; revoke them first."
        )
