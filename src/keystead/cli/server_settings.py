"""From a command's flags to the server's settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from keystead.config import Settings, load_settings


def settings_from(flags: Mapping[str, Any]) -> Settings:
    """Load the settings that ``flags`` outrank; raise ``ConfigError`` naming what is wrong."""
    given = dict(flags)
    config_file: Path | None = given.pop("config_file", None)
    return load_settings(config_file, **given)


def without_password(url: str) -> str:
    """Hide the password in a URL, so that it can be shown."""
    try:
        parts = urlsplit(url)
        password = parts.password
    except ValueError:
        return "(not a URL)"
    if not password:
        return url
    login, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{login.partition(':')[0]}:***@{host}").geturl()
