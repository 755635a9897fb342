"""The page of settings, from ``keystead.config.Settings``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from keystead.cli.application import application
from keystead.config import Settings
from tools.docs_markdown import code, table

_OPENING = """# Settings

What a server is told. A flag outranks the variable, and that the TOML file (`--config FILE`, or `KEYSTEAD_CONFIG`),
in which each setting stands under its name. A setting without a flag is given by its variable or in the file.
`keystead config` prints what is set; `keystead doctor` looks at it beside the running world.

"""
_CLOSING = """
## For the client

The commands that talk to a server read other variables: `KEYSTEAD_URL` and `KEYSTEAD_MANAGEMENT_KEY`, which always
go together, or `KEYSTEAD_PROFILE`, a profile of `~/.config/keystead/profiles.toml` with `url`, `management_key` or
`management_key_file`, and `ca_file`. See [the command line](cli.md).
"""


def page() -> str:
    """Write the page."""
    flags = flags_of_settings()
    rows = [
        [
            code(name),
            code(flags.get(name, "")),
            code(variable(name)),
            default_text(field.default),
            bounds_text(field),
            field.description or "",
        ]
        for name, field in Settings.model_fields.items()
    ]
    headings = ("setting", "flag", "variable", "default", "unit, bounds", "what it does")
    return _OPENING + table(headings, rows) + _CLOSING


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"{Settings.model_config['env_prefix']}{name.upper()}"


def flags_of_settings() -> dict[str, str]:
    """Return the flags of ``keystead serve`` by the setting that each gives."""
    serve = application.get_command(click.Context(application), "serve")
    if serve is None:
        raise LookupError("there is no command `serve`, which has the settings' flags")
    options = [parameter for parameter in serve.params if isinstance(parameter, click.Option)]
    return {option.name: option.opts[0] for option in options if option.name in Settings.model_fields}


def default_text(default: Any) -> str:
    """Write a default as one would give it."""
    if isinstance(default, bool):
        return code(str(default).lower())
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    if default is None or default == "":
        return "none"
    return code(str(default))


def bounds_text(field: FieldInfo) -> str:
    """Write the unit and the bounds of a setting, or what it may be."""
    if get_origin(field.annotation) is Literal:
        return " or ".join([code(choice) for choice in get_args(field.annotation)])
    extra = field.json_schema_extra
    unit = str(extra["unit"]) if isinstance(extra, dict) and extra.get("unit") else ""
    if field.annotation is bool:
        unit = "`true` or `false`"
    if field.annotation is Path or field.annotation == Path | None:
        unit = "path"
    bounds = [bound for item in field.metadata if (bound := getattr(item, "ge", getattr(item, "le", None))) is not None]
    if not bounds:
        return unit
    if len(bounds) == 1:  # so far only from below
        return f"at least {bounds[0]} {unit}".strip()
    return f"{bounds[0]} to {bounds[1]} {unit}".strip()
