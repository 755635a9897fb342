"""Looking at plans without changing them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from keystead.cli.application import command
from keystead.cli.message import Message
from keystead.cli.output import facts, print_page_end, show
from keystead.cli.parameters import Identifier
from keystead.cli.plans.rendering import plans_table, print_plan
from keystead.cli.session import Session, in_pages, speaks_to_server
from keystead.cli.tables import cell
from keystead.cli.usage.rendering import counted, number, written

SERVICE = "PlanService"
PLAN = click.argument("plan", type=Identifier())


@command("list", examples=("keystead plans list", "keystead plans list --all --json"))
@in_pages
@speaks_to_server()
def list_plans(session: Session, *, page: dict[str, Any]) -> None:
    """List plans, by name.

    Every workspace begins with free, which is its default, and enterprise, which limits nothing.
    """
    session.show(session.pages(SERVICE, "ListPlans", page, field="plans"), _print_page)


@command("show", examples=("keystead plans show free", "keystead plans show pln_01HZX… --json"))
@PLAN
@speaks_to_server()
def show_plan(session: Session, *, plan: str) -> None:
    """Show one plan and what its limits mean.

    Whom it applies to tells `keystead plans preview`.
    """
    session.show(session.call(SERVICE, "GetPlan", {"planId": plan}), lambda reply: print_plan(reply["plan"]))


@command("preview", examples=("keystead plans preview free",))
@PLAN
@speaks_to_server()
def preview(session: Session, *, plan: str) -> None:
    """Say whom a plan applies to, before it is changed.

    A key has its own plan, or else its owner's, or else the workspace's default. Keys that are revoked do not count.
    """
    session.show(session.call(SERVICE, "PreviewPlan", {"planId": plan}), lambda reply: _print_preview(plan, reply))


def _print_page(reply: Message) -> None:
    found = reply["plans"]
    if found:
        show(plans_table(found))
    print_page_end(reply, found, what="plans")


def _print_preview(plan: str, reply: Message) -> None:
    affected = number(reply.get("affectedKeys"))
    said = f"applies to {affected:,} {'key' if affected == 1 else 'keys'}"
    show((*cell(written(plan), "bold"), *cell(f" {said}")), facts(_facts(reply)))


def _facts(reply: Message) -> Iterator[tuple[str, str]]:
    yield "by themselves", _many(reply.get("keys"), "key")
    yield "by their owners", _many(reply.get("owners"), "owner")
    yield "by default", "all customers' keys without another plan" if reply.get("isDefault") else ""
    yield "owners, some", "\n".join(map(written, reply.get("sampleOwnerIds", [])))


def _many(value: object, noun: str) -> str:
    return f"{counted(value)} {noun if number(value) == 1 else f'{noun}s'}" if number(value) else ""
