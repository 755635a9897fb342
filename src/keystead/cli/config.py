"""``keystead config``: every setting, where it comes from and what it is now; secrets are never among it."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from keystead.cli.application import command
from keystead.cli.flags import JSON_FLAG, LISTENER_FLAGS, PLACE_FLAGS, with_options
from keystead.cli.output import NOTHING, print_json, show
from keystead.cli.server_settings import settings_from, without_password
from keystead.cli.tables import Column, Table, cell, joined
from keystead.config import Settings

_PREFIX = "KEYSTEAD_"


@dataclass(frozen=True, slots=True)
class Setting:
    """One row: ``bounds`` is empty where there are none."""

    name: str
    variable: str
    value: str
    unit: str
    bounds: str
    description: str


@command("config", examples=("keystead config", "keystead config --config keystead.toml --json"))
@with_options(*LISTENER_FLAGS, *PLACE_FLAGS, JSON_FLAG)
def config(*, as_json: bool, **flags: Any) -> None:
    """Print every setting and what it is now.

    A setting stands under its name in the TOML file given by --config, and under its variable in the environment, which
    outranks the file; flags outrank both. Secrets are shown as set or not set.
    """
    found = list(describe(settings_from(flags)))
    if as_json:
        print_json({"settings": [asdict(setting) for setting in found]})
        return
    made = Table((Column("SETTING", whole=True), Column("NOW", columns_max=20), Column("WHAT IT IS")))
    for setting in found:
        bounds = "\n".join(part for part in (setting.unit, setting.bounds) if part)
        row = (
            joined([cell(setting.name, "bold"), cell(setting.variable, "dim")], "\n"),
            joined([cell(setting.value or NOTHING), *([cell(bounds, "dim")] if bounds else [])], "\n"),
            cell(setting.description),
        )
        made.rows.append(row)
    show(made)


def describe(settings: Settings) -> Iterator[Setting]:
    """Tell of every setting what there is to tell."""
    for name, field in Settings.model_fields.items():
        extra = field.json_schema_extra
        unit = extra.get("unit", "") if isinstance(extra, dict) else ""
        yield Setting(
            name=name,
            variable=_PREFIX + name.upper(),
            value=_shown(getattr(settings, name)),
            unit=str(unit),
            bounds=_bounds(field),
            description=field.description or "",
        )


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return "(set)" if value.get_secret_value() else ""
    if isinstance(value, bool):
        return str(value).lower()
    return without_password(str(value))


def _bounds(field: FieldInfo) -> str:
    if typing.get_origin(field.annotation) is Literal:
        return " | ".join(str(choice) for choice in typing.get_args(field.annotation))
    low = next((item.ge for item in field.metadata if hasattr(item, "ge")), None)
    high = next((item.le for item in field.metadata if hasattr(item, "le")), None)
    return f"{low} to {high}" if low is not None and high is not None else ""
