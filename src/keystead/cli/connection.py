"""Where to call and as whom.

URL and key always come from one source, so that a key never goes to a server that another source named: a profile given
by flag, else the environment (KEYSTEAD_URL, KEYSTEAD_MANAGEMENT_KEY), else the profile KEYSTEAD_PROFILE names, else the
profile `default`.
"""

from __future__ import annotations

import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from keystead.cli.problems import CommandError, ExitCode, Problem, warn
from keystead.kernel.secret import Secret

DEFAULT_URL = "http://127.0.0.1:8080"
DEFAULT_PROFILE = "default"
PROFILE_FIELDS = frozenset({"url", "management_key", "management_key_file", "ca_file"})

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_KEY_FILE_BYTES_MAX = 4_096


@dataclass(frozen=True, slots=True)
class Connection:
    """A server and a credential for it; ``source`` says for people where both came from."""

    url: str
    management_key: Secret
    source: str
    ca_file: Path | None = None

    @property
    def loopback(self) -> bool:
        """Whether the server is on this machine."""
        return urlsplit(self.url).hostname in _LOOPBACK


def find_connection(environment: Mapping[str, str], *, profile: str | None) -> Connection:
    """Choose the source and read it; raise ``CommandError`` that says what is missing and where it may stand."""
    if profile:
        connection = _from_profile(_profiles_path(environment), profile)
    elif environment.get("KEYSTEAD_URL") or environment.get("KEYSTEAD_MANAGEMENT_KEY"):
        connection = _from_environment(environment)
    else:
        connection = _from_default_profile(environment)
    if connection.url.startswith("http://") and not connection.loopback:
        warn(f"the management key travels to {connection.url} in clear; use https://")
    return connection


def _profiles_path(environment: Mapping[str, str]) -> Path:
    base = environment.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "keystead" / "profiles.toml"


def _from_environment(environment: Mapping[str, str]) -> Connection:
    key = environment.get("KEYSTEAD_MANAGEMENT_KEY", "")
    if not key:
        _refuse("KEYSTEAD_URL is set and KEYSTEAD_MANAGEMENT_KEY is not; set both, or use a profile (--profile NAME).")
    url = environment.get("KEYSTEAD_URL") or DEFAULT_URL
    return Connection(
        _checked_url(url, "KEYSTEAD_URL"), _checked_key(key, "KEYSTEAD_MANAGEMENT_KEY"), "the environment"
    )


def _from_default_profile(environment: Mapping[str, str]) -> Connection:
    path = _profiles_path(environment)
    named = environment.get("KEYSTEAD_PROFILE")
    if named:
        return _from_profile(path, named)
    if not path.exists() or DEFAULT_PROFILE not in _read_profiles(path):
        _refuse(
            "There is no management key. Set KEYSTEAD_URL and KEYSTEAD_MANAGEMENT_KEY (`keystead up` keeps them in"
            f" DATA/env: `source data/env`), or write a profile into {path}."
        )
    return _from_profile(path, DEFAULT_PROFILE)


def _from_profile(path: Path, name: str) -> Connection:
    profiles = _read_profiles(path)
    table = profiles.get(name)
    if not isinstance(table, dict):
        _refuse(f"{path} has no profile {name!r}; it has: {', '.join(sorted(profiles)) or 'none'}.", ExitCode.USAGE)
    unknown = sorted(set(table) - PROFILE_FIELDS)
    wrong = sorted(field for field, value in table.items() if not isinstance(value, str))
    if unknown or wrong:
        known = ", ".join(sorted(PROFILE_FIELDS))
        _refuse(f"{path} [{name}]: {', '.join(unknown or wrong)}: profiles hold {known}, each a text.", ExitCode.USAGE)
    source = f"profile {name} in {path}"
    ca_file = table.get("ca_file")
    return Connection(
        _checked_url(table.get("url", DEFAULT_URL), f"url in {source}"),
        _checked_key(_profile_key(path, table, source), source),
        source,
        Path(ca_file).expanduser() if ca_file else None,
    )


def _read_profiles(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        _refuse(f"There is no file {path}; profiles stand there.", ExitCode.USAGE)
    except OSError as error:
        _refuse(f"{path} cannot be read: {error.strerror}.", ExitCode.USAGE)
    except ValueError:
        # The parser's own words may quote a line that holds a key.
        _refuse(f"{path} is no TOML.", ExitCode.USAGE)


def _profile_key(path: Path, table: Mapping[str, str], source: str) -> str:
    if ("management_key" in table) == ("management_key_file" in table):
        _refuse(f"{source} must hold either management_key or management_key_file.")
    if "management_key" in table:
        _warn_when_others_read(path)
        return table["management_key"]
    key_path = path.parent / Path(table["management_key_file"]).expanduser()
    _warn_when_others_read(key_path)
    try:
        with key_path.open("rb") as file:
            return file.read(_KEY_FILE_BYTES_MAX).decode("utf-8", "replace").strip()
    except OSError as error:
        _refuse(f"The key of {source} cannot be read from {key_path}: {error.strerror}.")


def _warn_when_others_read(path: Path) -> None:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return  # reading it will say so
    if mode & 0o077:
        warn(f"{path} holds a management key and others may read it (mode {mode:04o}); run: chmod 600 {path}")


def _checked_url(url: str, source: str) -> str:
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and not parts.username
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment:
        _refuse(
            f"The URL from {source} must look like https://HOST:PORT, without name, password or query.", ExitCode.USAGE
        )
    return url.rstrip("/")


def _checked_key(key: str, source: str) -> Secret:
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        _refuse(f"What stands for a management key in {source} is empty or holds characters that no key has.")
    return Secret(key)


def _refuse(message: str, exit_code: ExitCode = ExitCode.UNAUTHORIZED) -> NoReturn:
    raise CommandError(Problem(message, "NO_CONNECTION", exit_code))
