"""What can go wrong with plans and limits."""

from __future__ import annotations

from keystead.kernel.errors import KeysteadError


class LimiterAwayError(Exception):
    """Raised by a store of rates that cannot answer in time; what happens then is the plan's choice, never the store's.

    ``spent`` says whether the question may have reached the store: it is never asked again, and counts as spent.
    """

    def __init__(self, why: str, *, spent: bool = False) -> None:
        """Say ``why``, for the log alone."""
        super().__init__(why)
        self.spent = spent


class PlanInUseError(KeysteadError):
    """Raised when a plan is deleted that keys, owners or the workspace itself still refer to."""

    code = "plan_in_use"

    def __init__(self, name: str, *, keys: int, owners: int, default: bool) -> None:
        """Say who uses the plan."""
        users = [_counted(keys, "key")] if keys else []
        users += [_counted(owners, "owner")] if owners else []
        users += ["the workspace, as its default plan"] if default else []
        super().__init__(
            public=f"Plan {name} is in use by {', '.join(users)}; give them another plan first.",
            metadata={"keys": str(keys), "owners": str(owners)},
        )


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
