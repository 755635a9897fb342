"""How keys look to people: a state is a symbol and a word before it is a colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from keystead.cli.output import cell, entries, exactly, facts, future, lines, past, screen, table

Key = Mapping[str, Any]

WIDE_COLUMNS = 150
"""From here on a key stands on one line; below, its parts stand under one another."""

_SCOPES_SHOWN = 2
_SCOPES_CHARACTERS = 34
_STATES = {
    "ACTIVE": ("●", "green"),
    "SUSPENDED": ("◐", "yellow"),
    "REVOKED": ("✕", "red"),
    "EXPIRED": ("○", "magenta"),
    "CURRENT": ("●", "green"),
    "RETIRING": ("◐", "yellow"),
    "RETIRED": ("○", "dim"),
}


def state_text(state: str) -> Text:
    """Write a key's state or a secret's status."""
    symbol, style = _STATES.get(state, ("?", ""))
    return Text(f"{symbol} {state.lower()}", style=style)


def short_scopes(scopes: Sequence[str]) -> str:
    """Write the first scopes and how many more there are."""
    shown: list[str] = []
    for scope in scopes[:_SCOPES_SHOWN]:
        if shown and len(", ".join([*shown, scope])) > _SCOPES_CHARACTERS:
            break
        shown.append(scope)
    more = len(scopes) - len(shown)
    return ", ".join(shown) + (f" +{more}" if more else "")


def print_keys(keys: Sequence[Key], console: Console | None = None) -> None:
    """Print a list of keys."""
    if not keys:
        return
    out = console or screen()
    out.print(_wide(keys) if out.width >= WIDE_COLUMNS else _narrow(keys))


def _wide(keys: Sequence[Key]) -> Table:
    made = table("STATE", "KEY", "ENV", "PREFIX", "OWNER", "NAME", "SCOPES", "LAST USED", "EXPIRES")
    for key in keys:
        made.add_row(
            state_text(key["state"]),
            cell(key["id"]),
            cell(key["environment"].lower()),
            _join(_prefixes(key), " · "),
            cell(key["ownerId"] or "-"),
            cell(key["name"]),
            cell(short_scopes(key["scopes"])),
            cell(past(key.get("lastUsedAt"), never="never")),
            cell(future(key.get("expiresAt"), never="never")),
        )
    return made


def _narrow(keys: Sequence[Key]) -> Table:
    made = table("STATE", "KEY, PREFIX, SCOPES", "OWNER, NAME", "USED, EXPIRES")
    made.columns[1].min_width = 30
    for index, key in enumerate(keys):
        last = index == len(keys) - 1
        scopes = [cell(short_scopes(key["scopes"]), "dim")] if key["scopes"] else []
        expiry = f"ends {future(key['expiresAt'])}" if key.get("expiresAt") else "never ends"
        made.add_row(
            _join([state_text(key["state"]), cell("  " + key["environment"].lower(), "dim")], "\n"),
            _join([cell(key["id"], "bold"), *_prefixes(key), *scopes], "\n") + Text("" if last else "\n"),
            _join([cell(key["ownerId"] or "-"), cell(key["name"])], "\n"),
            _join([cell(past(key.get("lastUsedAt"), never="never used")), cell(expiry, "dim")], "\n"),
        )
    return made


def _prefixes(key: Key) -> list[Text]:
    """Write the prefixes that work; during a rotation each with what it is and how long it lasts."""
    working = [secret for secret in key["secrets"] if secret["status"] in {"CURRENT", "RETIRING"}]
    if len(working) == 1:
        return [cell(working[0]["prefix"])]
    return [_rotating(secret) for secret in working]


def _rotating(secret: Mapping[str, Any]) -> Text:
    symbol, style = _STATES[secret["status"]]
    left = f" {future(secret['retiresAt'])}" if secret["status"] == "RETIRING" else ""
    said = "current" if secret["status"] == "CURRENT" else "retires"
    return Text(f"{symbol} {secret['prefix']} {said}{left}", style=style)


def _join(parts: Sequence[Text], separator: str) -> Text:
    return Text(separator).join(parts)


def print_key(key: Key, console: Console | None = None) -> None:
    """Print everything about one key; no secret is among it."""
    out = console or screen()
    out.print(_join([cell(key["name"], "bold"), state_text(key["state"])], "  "))
    out.print(facts(_facts(key)))
    out.print()
    out.print(_secrets(key["secrets"]))


def _facts(key: Key) -> list[tuple[str, str | Text]]:
    return [
        ("key", key["id"]),
        ("owner", key["ownerId"]),
        ("kind", key["kind"].lower()),
        ("environment", key["environment"].lower()),
        ("description", key["description"]),
        ("reason", key["stateReason"]),
        ("scopes", lines(key["scopes"])),
        ("metadata", entries(key["metadata"])),
        ("tags", ", ".join(key["tags"])),
        ("allowed addresses", lines(key["allowedIps"])),
        ("created", exactly(key.get("createdAt"), past(key.get("createdAt"))) + f" by {key['createdBy']}"),
        ("last used", past(key.get("lastUsedAt"), never="never")),
        ("expires", exactly(key.get("expiresAt"), future(key.get("expiresAt"), parts=2)) or "never"),
        ("revoked", exactly(key.get("revokedAt"), past(key.get("revokedAt")))),
        ("etag", key["etag"]),
    ]


def _secrets(secrets: Sequence[Mapping[str, Any]]) -> Table:
    made = table("SECRET", "PREFIX", "CREATED", "LAST USED", "ENDS")
    for secret in secrets:
        made.add_row(
            state_text(secret["status"]),
            cell(secret["prefix"]),
            cell(past(secret.get("createdAt"))),
            cell(past(secret.get("lastUsedAt"), never="never")),
            cell(future(secret.get("retiresAt"), parts=2)),
        )
    return made
