"""What is asked about events; the same words for every command."""

from __future__ import annotations

from typing import Any

import click

from keystead.cli.flags import Option
from keystead.cli.message import Message, without_empty
from keystead.cli.parameters import Identifier

SERVICE = "AuditService"

FILTERS: tuple[Option, ...] = (
    click.option("--key", "key_id", type=Identifier(), metavar="KEY_ID", help="Events about this key."),
    click.option("--owner", "owner_id", type=Identifier(), metavar="OWNER_ID", help="Events that concern this owner."),
    click.option(
        "--action", metavar="ACTION", help="Events of this action, as in key.revoked; 'key.*' takes all that begin so."
    ),
)
_NAMES = {"key_id": "keyId", "owner_id": "ownerId", "action": "action"}


def filter_of(given: dict[str, Any]) -> Message:
    """Write the filters given as the contract does."""
    return without_empty({name: given[own] for own, name in _NAMES.items()})
