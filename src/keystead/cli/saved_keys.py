"""The two files that keep what the first run made: ``first-run.json`` for programs and ``env`` to be sourced.

Both are for their owner alone from the first byte on, and both are replaced as a whole, so a crash or a full disk
leaves the old file or the new one. While ``http`` and ``grpc`` are empty, nobody was shown the keys yet.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from keystead.config import Settings

EMBEDDED = "embedded"
_MODE = 0o600


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedKeys:
    """What stands in ``first-run.json``. ``database`` says to which database the keys belong."""

    workspace_id: str
    management_key: str = field(repr=False)
    sample_key: str = field(repr=False)
    sample_key_id: str
    sample_owner_id: str
    database: str
    http: str = ""
    grpc: str = ""

    @property
    def shown(self) -> bool:
        """Whether a server with these keys has ever listened and said so."""
        return bool(self.http)


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """Where the files are."""

    folder: Path

    @property
    def json(self) -> Path:
        """The file for programs."""
        return self.folder / "first-run.json"

    @property
    def env(self) -> Path:
        """The file to be sourced."""
        return self.folder / "env"

    def read(self, database: str) -> SavedKeys | None:
        """Return what is kept for ``database``; None when there is nothing, or nothing that can be read."""
        names = {item.name for item in fields(SavedKeys)}
        try:
            found = json.loads(self.json.read_text(encoding="utf-8"))
            saved = SavedKeys(**{name: str(value) for name, value in found.items() if name in names})
        except (OSError, ValueError, TypeError, AttributeError):
            return None
        return saved if saved.database == database else None

    def write(self, saved: SavedKeys) -> None:
        """Replace both files, or raise ``OSError``; keys of another workspace are set aside before."""
        self._set_aside(saved)
        body = {item.name: getattr(saved, item.name) for item in fields(SavedKeys)}
        _replace_file(self.json, json.dumps(body, indent=2) + "\n")
        _replace_file(self.env, _environment(saved))

    def announce(self, saved: SavedKeys, *, http: str, grpc: str) -> SavedKeys:
        """Note where the server listens now."""
        now = replace(saved, http=reachable(http), grpc=reachable(grpc))
        if now != saved:
            self.write(now)
        return now

    def _set_aside(self, saved: SavedKeys) -> None:
        try:
            before = str(json.loads(self.json.read_text(encoding="utf-8"))["workspace_id"])
        except (OSError, ValueError, TypeError, KeyError):
            return
        if before != saved.workspace_id and before.replace("_", "").isalnum():
            self.json.replace(self.folder / f"first-run.{before}.json")


def database_name(settings: Settings) -> str:
    """Name the database that keys belong to, without anything secret."""
    return EMBEDDED if settings.embedded else settings.database.rpartition("@")[2]


def reachable(address: str) -> str:
    """Turn an address that stands for all of a machine's into one that can be called from it."""
    return address.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")  # noqa: S104 -- compared, not bound to


def _environment(saved: SavedKeys) -> str:
    exports = {
        "KEYSTEAD_URL": saved.http,
        "KEYSTEAD_MANAGEMENT_KEY": saved.management_key,
        "KEYSTEAD_GRPC_TARGET": saved.grpc,
        "KEYSTEAD_SAMPLE_KEY": saved.sample_key,
        "KEYSTEAD_SAMPLE_KEY_ID": saved.sample_key_id,
    }
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in exports.items()]
    return "# Made by `keystead up`: `source` this file to call the server as its first manager.\n" + "".join(lines)


def _replace_file(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
