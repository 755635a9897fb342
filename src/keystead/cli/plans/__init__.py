"""``keystead plans …``: the tiers that a platform sells; each command is imported when it runs."""

from __future__ import annotations

from keystead.cli.application import Entry, LazyGroup

_HELP = """Make, change and try plans, the tiers that keys and owners have.

A plan is limits by reference: change it once, and every key that it applies to follows within a second, keeping what
was spent. A plan is called by its id or its name. How limits are written tells `keystead limits --help`.
"""

plans = LazyGroup(
    "plans",
    help=_HELP,
    entries={
        "list": Entry("keystead.cli.plans.reading:list_plans", "List plans, by name."),
        "show": Entry("keystead.cli.plans.reading:show_plan", "Show one plan and what its limits mean."),
        "create": Entry("keystead.cli.plans.changing:create", "Make a plan."),
        "update": Entry("keystead.cli.plans.changing:update", "Change a plan for all keys that it applies to."),
        "delete": Entry("keystead.cli.plans.changing:delete", "Delete a plan that nobody refers to."),
        "preview": Entry("keystead.cli.plans.reading:preview", "Say whom a plan applies to, before it is changed."),
        "simulate": Entry("keystead.cli.plans.simulating:simulate", "Try limits on the calls that were recorded."),
    },
)
