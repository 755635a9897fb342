"""How plans look to people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keystead.cli.limits.explaining import limits_table, notations
from keystead.cli.limits.notation import length_of
from keystead.cli.output import NOTHING, exactly, facts, past, show
from keystead.cli.tables import Block, Column, Table, cell
from keystead.cli.usage.rendering import counted, number, written

Plan = Mapping[str, Any]

_OUTAGES = {"DENY": "refuse calls", "ALLOW": "admit calls", "LOCAL": "count in each process, its share"}


def print_plan(plan: Plan) -> None:
    """Print everything about one plan."""
    blocks: list[Block] = [cell(written(plan["name"]), "bold"), facts(_facts(plan)), cell("")]
    blocks.append(limits_table(plan["limits"]) if plan["limits"] else cell("No limits: every call is admitted."))
    show(*blocks)


def plans_table(plans: Sequence[Plan]) -> Table:
    """Make a table of plans; each limit stands on a line of its own."""
    made = Table(
        (
            Column("PLAN", whole=True),
            Column("LIMITS"),
            Column("KEYS/OWNER", whole=True),
            Column("ROTATE", whole=True),
            Column("AWAY", whole=True),
        )
    )
    for plan in plans:
        row = (
            cell(written(plan["name"]), "bold"),
            cell(notations(plan["limits"]), "cyan") if plan["limits"] else cell("none", "dim"),
            cell(counted(plan["maxKeysPerOwner"]) if number(plan.get("maxKeysPerOwner")) else "any"),
            cell(length_of(plan["rotateEvery"]) if plan.get("rotateEvery") else NOTHING),
            cell(str(plan.get("onLimiterOutage", "")).lower() if plan["limits"] else NOTHING),
        )
        made.rows.append(row)
    return made


def _facts(plan: Plan) -> list[tuple[str, str]]:
    outage = str(plan.get("onLimiterOutage", ""))
    said = f"{outage.lower()} ({_OUTAGES[outage]})" if outage in _OUTAGES else outage.lower()
    return [
        ("plan", plan["id"]),
        ("description", written(plan["description"])),
        ("keys per owner", counted(plan["maxKeysPerOwner"]) if number(plan.get("maxKeysPerOwner")) else "any number"),
        ("rotation", _rotation(plan)),
        ("limiter away", said if plan["limits"] else ""),
        ("created", exactly(plan.get("createdAt"), past(plan.get("createdAt")))),
        ("updated", exactly(plan.get("updatedAt"), past(plan.get("updatedAt")))),
        ("etag", plan["etag"]),
    ]


def _rotation(plan: Plan) -> str:
    if not plan.get("rotateEvery"):
        return ""
    said = f"every {length_of(plan['rotateEvery'])}, or an event warns"
    return f"{said}, and later the key is suspended" if plan.get("suspendOverdue") else said
