"""``keystead doctor``: what would go wrong, before it does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from keystead.bootstrap import Finding, examine
from keystead.cli.application import command
from keystead.cli.flags import JSON_FLAG, LISTENER_FLAGS, PLACE_FLAGS, with_options
from keystead.cli.output import print_json, show
from keystead.cli.problems import ExitCode
from keystead.cli.server_settings import settings_from
from keystead.cli.tables import Column, Table, cell, joined

_STATUSES = {"ok": ("●", "green"), "warning": ("▲", "yellow"), "failed": ("✕", "red")}


@command("doctor", examples=("keystead doctor", "keystead doctor --config keystead.toml --json"))
@with_options(*LISTENER_FLAGS, *PLACE_FLAGS, JSON_FLAG)
@click.pass_context
def doctor(context: click.Context, /, *, as_json: bool, **flags: Any) -> None:
    """Check the settings against the running world.

    Looks at everything the service leans on and says what to change. Changes nothing itself; exits 1 when something
    would keep the service from working.
    """
    findings = asyncio.run(examine(settings_from(flags)))
    if as_json:
        print_json({"findings": [asdict(finding) for finding in findings]})
    else:
        _print(findings)
    if any(finding.status == "failed" for finding in findings):
        context.exit(ExitCode.REFUSED)


def _print(findings: Sequence[Finding]) -> None:
    made = Table((Column("STATUS", whole=True), Column("WHAT", whole=True), Column("FOUND")))
    for finding in findings:
        symbol, style = _STATUSES[finding.status]
        found = cell(finding.detail)
        if finding.advice and finding.status != "ok":
            found = joined([found, cell(f"→ {finding.advice}", "bold")], "\n")
        made.rows.append((cell(f"{symbol} {finding.status}", style), cell(finding.name), found))
    show(made)
