"""The options that limits and plans are given with, spelled and explained once."""

from __future__ import annotations

from typing import Any

import click

from keystead.cli.flags import Option
from keystead.cli.limits.notation import NotationError, limit_of
from keystead.cli.message import Message
from keystead.cli.parameters import Name

OUTAGE_POLICY = Name(("DENY", "ALLOW", "LOCAL"))


class LimitRule(click.ParamType[Message]):
    """A limit, ``NAME=RULE``, as the contract's JSON has it."""

    name = "limit"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Message:
        """Read a limit, or fail and point at what was not understood."""
        if isinstance(value, dict):
            return value
        try:
            return limit_of(str(value))
        except NotationError as error:
            self.fail(error.pointed(), param, ctx)


def limit_option(help_text: str) -> Option:
    """Make ``--limit``, repeatable; it is taken as ``limits``."""
    return click.option("--limit", "limits", multiple=True, type=LimitRule(), metavar="NAME=RULE", help=help_text)


def plan_option(help_text: str) -> Option:
    """Make ``--plan``, an id or a name; it is taken as ``plan``."""
    return click.option("--plan", metavar="PLAN", help=help_text)
