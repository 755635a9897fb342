"""Changing what a key may do, and whether it works for now."""

from __future__ import annotations

from typing import Any

import click

from keystead.cli.application import command
from keystead.cli.flags import WAIT_FLAG, with_options
from keystead.cli.keys.rendering import print_key
from keystead.cli.limits.options import limit_option, plan_option
from keystead.cli.message import Message
from keystead.cli.parameters import Identifier, Metadata, Moment
from keystead.cli.session import Session, speaks_to_server

_SERVICE = "KeyService"
_KEY_ID = click.argument("key_id", type=Identifier())
_REASON = click.option("--reason", default="", help="Why, for the audit record.")
_CLEARABLE = {
    "description": ("description", ""),
    "scopes": ("scopes", []),
    "metadata": ("metadata", {}),
    "tags": ("tags", []),
    "allowed-ips": ("allowedIps", []),
    "plan": ("planId", ""),
    "limits": ("limits", []),
}


@command(
    "update",
    examples=(
        "keystead keys update key_01HZX… --scope read:invoices --scope write:invoices",
        "keystead keys update key_01HZX… --expires never --clear allowed-ips",
        "keystead keys update key_01HZX… --plan starter --limit requests=600/min",
        "keystead keys update key_01HZX… --name Billing --etag '\"3\"'",
    ),
)
@_KEY_ID
@with_options(
    click.option("--name", help="What people call the key."),
    click.option("--description", help="What people should know of it."),
    click.option(
        "--scope", "scopes", multiple=True, help="Allow this and what else is given so, nothing more; repeatable."
    ),
    click.option("--metadata", multiple=True, type=Metadata(), help="Note this, in place of all notes; repeatable."),
    click.option("--tag", "tags", multiple=True, help="Group by this, in place of all tags; repeatable."),
    click.option("--allow-ip", "allowed_ips", multiple=True, help="Allow this address or range, no other; repeatable."),
    click.option(
        "--expires", "expires_at", type=Moment(never=True), help="Refuse it from then on: a time, 90d, never."
    ),
    plan_option("Give it this plan, by id or name."),
    limit_option("Limit it by this, in place of all limits of its own; repeatable."),
    click.option(
        "--clear", "cleared", multiple=True, type=click.Choice(sorted(_CLEARABLE)), help="Empty this; repeatable."
    ),
    click.option("--etag", default="", help="Refuse when the key was changed since it had this etag."),
)
@speaks_to_server(mutates=True)
def update(session: Session, *, key_id: str, etag: str, **given: Any) -> None:
    """Change what a key may do and what it is called.

    Only what is given changes; lists are replaced as a whole. The key's secrets, owner, kind and environment stay. With
    --etag nobody's change is overwritten unseen.
    """
    changed = _changed_fields(**given)
    if not changed:
        raise click.UsageError("nothing to change was given")
    # An expiry that ends is named in the mask and absent from the key.
    values = {name: value for name, value in changed.items() if value is not None}
    message = {"key": {"id": key_id, "etag": etag, **values}, "updateMask": ",".join(changed)}
    session.show(session.change(_SERVICE, "UpdateKey", message), _print_changed)


@command("suspend", examples=('keystead keys suspend key_01HZX… --reason "unusual traffic"',))
@_KEY_ID
@_REASON
@WAIT_FLAG
@speaks_to_server(mutates=True)
def suspend(session: Session, *, key_id: str, reason: str, wait: bool) -> None:
    """Refuse a key until it is resumed.

    The mild form of revoking: for a suspicion that may turn out wrong.
    """
    session.show(
        session.change(_SERVICE, "SuspendKey", {"keyId": key_id, "reason": reason, "wait": wait or None}),
        _print_changed,
    )


@command("resume", examples=("keystead keys resume key_01HZX…",))
@_KEY_ID
@speaks_to_server(mutates=True)
def resume(session: Session, *, key_id: str) -> None:
    """Let a suspended key work again.

    Its secrets are the same as before; a rotation that was under way has gone on meanwhile.
    """
    session.show(session.change(_SERVICE, "ResumeKey", {"keyId": key_id}), _print_changed)


def _changed_fields(
    *,
    name: str | None,
    description: str | None,
    scopes: tuple[str, ...],
    metadata: tuple[tuple[str, str], ...],
    tags: tuple[str, ...],
    allowed_ips: tuple[str, ...],
    expires_at: str | None,
    plan: str | None,
    limits: tuple[Message, ...],
    cleared: tuple[str, ...],
) -> dict[str, Any]:
    """Return the fields that were given, by their names in the contract; an expiry to remove is None."""
    given: dict[str, Any] = {
        "name": name,
        "description": description,
        "scopes": list(scopes) or None,
        "metadata": dict(metadata) or None,
        "tags": list(tags) or None,
        "allowedIps": list(allowed_ips) or None,
        "planId": plan or None,
        "limits": list(limits) or None,
    }
    changed = {field: value for field, value in given.items() if value is not None}
    if expires_at is not None:
        changed["expiresAt"] = expires_at or None
    for option in cleared:
        field, empty = _CLEARABLE[option]
        if changed.setdefault(field, empty) != empty:
            raise click.UsageError(f"--clear {option} contradicts what else was given for it")
    return changed


def _print_changed(reply: Message) -> None:
    print_key(reply["key"])
