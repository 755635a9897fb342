"""How keys look to people: a state is a symbol and a word before it is a colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keystead.cli.limits.explaining import notations
from keystead.cli.output import NOTHING, columns_available, entries, exactly, facts, future, past, show
from keystead.cli.tables import PIPE_COLUMNS, Cell, Column, Table, cell, joined

Key = Mapping[str, Any]

WIDE_COLUMNS = 150
"""From here on a key stands on one line; below, its parts stand under one another."""

_SCOPES_SHOWN = 2
_SCOPES_CHARACTERS = 29
_STATES = {
    "ACTIVE": ("●", "green"),
    "SUSPENDED": ("◐", "yellow"),
    "REVOKED": ("✕", "red"),
    "EXPIRED": ("○", "magenta"),
    "CURRENT": ("●", "green"),
    "RETIRING": ("◐", "yellow"),
    "RETIRED": ("○", "dim"),
}
_WORKING = {"CURRENT", "RETIRING"}


def state_cell(state: str) -> Cell:
    """Write a key's state or a secret's status."""
    symbol, style = _STATES.get(state, ("?", ""))
    return cell(f"{symbol} {state.lower()}", style)


def short_scopes(scopes: Sequence[str]) -> str:
    """Write the first scopes and how many more there are."""
    shown: list[str] = []
    for scope in scopes[:_SCOPES_SHOWN]:
        if shown and len(", ".join([*shown, scope])) > _SCOPES_CHARACTERS:
            break
        shown.append(scope)
    more = len(scopes) - len(shown)
    return ", ".join(shown) + (f" +{more}" if more else "")


def print_keys(keys: Sequence[Key]) -> None:
    """Print a list of keys."""
    if keys:
        columns = columns_available()
        show(narrow_table(keys) if columns < WIDE_COLUMNS else wide_table(keys, one_line=columns == PIPE_COLUMNS))


def wide_table(keys: Sequence[Key], *, one_line: bool) -> Table:
    """Make a table of one row for each key; a rotation's two secrets share a line when it must be ``one_line``."""
    made = Table(
        (
            Column("STATE", whole=True),
            Column("KEY", whole=True),
            Column("ENV", whole=True),
            Column("PREFIX", whole=True),
            Column("OWNER"),
            Column("NAME"),
            Column("SCOPES"),
            Column("LAST USED", whole=True),
            Column("EXPIRES", whole=True),
        )
    )
    for key in keys:
        row = (
            state_cell(key["state"]),
            cell(key["id"]),
            cell(key["environment"].lower()),
            joined(_prefixes(key), ", " if one_line else "\n"),
            cell(key["ownerId"] or NOTHING),
            cell(key["name"]),
            cell(short_scopes(key["scopes"]) or NOTHING),
            cell(past(key.get("lastUsedAt"), never="never")),
            cell(future(key.get("expiresAt"), never="never")),
        )
        made.rows.append(row)
    return made


def narrow_table(keys: Sequence[Key]) -> Table:
    """Make a table for 80 columns: two to five lines for each key, and an empty one between two."""
    made = Table(
        (
            Column("STATE", whole=True),
            Column("KEY, PREFIX, SCOPES"),
            Column("OWNER, NAME", columns_max=17),
            Column("USED, EXPIRES", whole=True),
        )
    )
    for key in keys:
        scopes = [cell(short_scopes(key["scopes"]), "dim")] if key["scopes"] else []
        expiry = f"ends {future(key['expiresAt'])}" if key.get("expiresAt") else "never ends"
        row = (
            joined([state_cell(key["state"]), cell(f"  {key['environment'].lower()}", "dim")], "\n"),
            joined([cell(key["id"], "bold"), *_prefixes(key), *scopes], "\n"),
            joined([cell(key["ownerId"] or NOTHING), cell(key["name"])], "\n"),
            joined([cell(past(key.get("lastUsedAt"), never="never used")), cell(expiry, "dim")], "\n"),
        )
        if made.rows:
            made.rows.append((cell(""),) * len(row))
        made.rows.append(row)
    return made


def _prefixes(key: Key) -> list[Cell]:
    """Write the prefixes that work; during a rotation each with what it is and how long it lasts."""
    working = [secret for secret in key["secrets"] if secret["status"] in _WORKING]
    if len(working) == 1:
        return [cell(working[0]["prefix"])]
    return [_rotating(secret) for secret in working]


def _rotating(secret: Mapping[str, Any]) -> Cell:
    _, style = _STATES[secret["status"]]
    if secret["status"] == "CURRENT":
        return cell(f"{secret['prefix']} current", style)
    return cell(f"{secret['prefix']} {future(secret['retiresAt']).removeprefix('in ')} left", style)


def print_key(key: Key) -> None:
    """Print everything about one key; no secret is among it."""
    heading = joined([cell(key["name"], "bold"), state_cell(key["state"])], "  ")
    show(heading, facts(_facts(key)), cell(""), _secrets(key["secrets"]))


def _facts(key: Key) -> list[tuple[str, str]]:
    return [
        ("key", key["id"]),
        ("owner", key["ownerId"]),
        ("kind", key["kind"].lower()),
        ("environment", key["environment"].lower()),
        ("description", key["description"]),
        ("reason", key["stateReason"]),
        ("scopes", "\n".join(key["scopes"])),
        ("metadata", entries(key["metadata"])),
        ("tags", ", ".join(key["tags"])),
        ("plan", key["planId"]),
        ("limits", notations(key["limits"])),
        ("allowed addresses", "\n".join(key["allowedIps"])),
        ("created", exactly(key.get("createdAt"), past(key.get("createdAt")))),
        ("created by", key["createdBy"]),
        ("last used", past(key.get("lastUsedAt"), never="never")),
        ("expires", exactly(key.get("expiresAt"), future(key.get("expiresAt"), parts=2)) or "never"),
        ("revoked", exactly(key.get("revokedAt"), past(key.get("revokedAt")))),
        ("etag", key["etag"]),
    ]


def _secrets(secrets: Sequence[Mapping[str, Any]]) -> Table:
    made = Table(tuple(Column(heading) for heading in ("SECRET", "PREFIX", "CREATED", "LAST USED", "ENDS")))
    for secret in secrets:
        row = (
            state_cell(secret["status"]),
            cell(secret["prefix"]),
            cell(past(secret.get("createdAt"))),
            cell(past(secret.get("lastUsedAt"), never="never")),
            cell(future(secret.get("retiresAt"), parts=2)),
        )
        made.rows.append(row)
    return made
