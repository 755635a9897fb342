"""``keystead limits …``: what is left of limits; each command is imported when it runs."""

from __future__ import annotations

from keystead.cli.application import Entry, LazyGroup

_HELP = """Show, reset and try limits.

Wherever a limit is given it is written NAME=RULE, and every limit on a screen is written so too.

\b
  requests=100/min                       at most 100 in any minute
  burst=bucket:10/s:burst=50             10 each second, up to 50 at once
  daily=quota:10000/day                  10,000 each calendar day (UTC)
  bills=quota:5000/month:from=2027-01-15 each month from the 15th on
  monthly=soft-quota:1000000/month       told at 80 % and 100 %, never refused
  credit=credits:500,refill=100/day      500 to spend, 100 more each day
  credit=credits:500,refill=100/day,max=900

\b
  …@owner       counted over all keys of an owner
  …@workspace   counted over all keys of the workspace's environment

Times are s, min, h, day, week, or so many of them: 15min, 30d. Numbers may end in k or M. A limit of 0 refuses
everything. A limit of an owner replaces the plan's of the same name, and one of a key replaces both.
"""

limits = LazyGroup(
    "limits",
    help=_HELP,
    entries={
        "show": Entry("keystead.cli.limits.showing:show_limits", "Show what is left of a key's limits."),
        "reset": Entry("keystead.cli.limits.changing:reset", "Forget what a key has spent of its limits."),
        "adjust": Entry("keystead.cli.limits.changing:adjust", "Add to a balance of credits, or take from it."),
        "check": Entry("keystead.cli.limits.checking:check", "Decide limits on a subject of your own, without a key."),
    },
)
