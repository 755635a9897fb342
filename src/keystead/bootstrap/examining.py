"""What ``keystead doctor`` looks at: the settings against the running world."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import bcrypt

from keystead.adapters.redis.address import RedisAddress
from keystead.adapters.redis.examining import examine_redis
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.migration import check_schema
from keystead.bootstrap.core import Core, database_settings, open_keyring
from keystead.config import Settings, unknown_variables
from keystead.kernel.errors import KeysteadError
from keystead.limits.errors import LimiterAwayError

_SLOW_START_S = 60
_CRASH_LOSSES = {
    "always": "appendfsync always: a crash forgets nothing that was spent",
    "everysec": "appendfsync everysec: a crash may forget a second, which costs at most one burst or window each",
    "no": "appendfsync no: a crash may forget what the system had not written, at most one burst or window each",
    "off": "no append-only file: a restart forgets what was spent, which costs at most one burst or window each",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at; ``advice`` says what to do when it is not ``ok``."""

    name: str
    status: Literal["ok", "warning", "failed"]
    detail: str
    advice: str = ""


async def examine(settings: Settings) -> list[Finding]:
    """Look at everything; a finding that others hang on ends the list when it failed."""
    return [finding async for finding in _findings(settings)]


async def _findings(settings: Settings) -> AsyncIterator[Finding]:
    yield _environment()
    yield _data_directory(settings)
    yield _hashing(settings)
    yield _listeners(settings)
    if settings.sink_files is not None:
        yield _sink_files(settings.sink_files)
    if settings.redis:
        yield await _redis(settings)
    try:
        keyring = open_keyring(settings, create=False)
    except KeysteadError as error:
        yield Finding("master keys", "failed", error.public, "set KEYSTEAD_MASTER_KEYS, or run `keystead up` once")
        return
    yield Finding("master keys", "ok", f"{len(keyring.checks)} configured, {keyring.current_id} mints")
    database = Database.connect(settings.database_url, settings=database_settings(settings))
    try:
        async for finding in _database(settings, Core(settings, keyring, database)):
            yield finding
    finally:
        await database.close()


async def _database(settings: Settings, looked_at: Core) -> AsyncIterator[Finding]:
    began_s = time.perf_counter()
    try:
        await looked_at.database.ping()
        yield Finding("database", "ok", f"answers in {(time.perf_counter() - began_s) * 1_000:.1f} ms")
        await check_schema(settings.database_url)
        yield Finding("schema", "ok", "is this version's")
        yield _masters(looked_at, await looked_at.demand_masters())
    except KeysteadError as error:
        yield Finding("database", "failed", error.public, "see the detail")
    finally:
        looked_at.hasher.close()


def _environment() -> Finding:
    if unknown := unknown_variables():
        advice = "`keystead config` lists the names"
        return Finding("environment", "warning", f"nothing reads {', '.join(unknown)}", advice)
    return Finding("environment", "ok", "every KEYSTEAD_ variable is known")


def _masters(looked_at: Core, in_use: set[str]) -> Finding:
    older = sorted(in_use - {looked_at.keyring.current_id})
    if older:
        return Finding("master keys in use", "ok", f"also older ones, until their keys are rotated: {', '.join(older)}")
    return Finding("master keys in use", "ok", "the one that mints alone")


def _data_directory(settings: Settings) -> Finding:
    path = settings.data_dir
    if not path.exists():
        return Finding("data directory", "warning", f"{path} does not exist yet", "`keystead up` makes it")
    if path.stat().st_mode & 0o077:
        return Finding("data directory", "warning", f"{path} can be read by others", f"chmod 700 {path}")
    return Finding("data directory", "ok", str(path))


def _sink_files(path: Path) -> Finding:
    """Say whether sinks can write files; until they can, they wait."""
    if not path.is_dir():
        return Finding("sink files", "failed", f"{path} is no directory", f"make it: mkdir -m 700 {path}")
    if not os.access(path, os.W_OK | os.X_OK):
        return Finding("sink files", "failed", f"{path} cannot be written to", "give it to the server's user")
    return Finding("sink files", "ok", str(path))


def _hashing(settings: Settings) -> Finding:
    """Say how fast a restart recovers: bcrypt runs once per secret and process."""
    began_s = time.perf_counter()
    bcrypt.hashpw(b"x" * 44, bcrypt.gensalt(settings.bcrypt_cost))
    each_s = time.perf_counter() - began_s
    threads = min(settings.verify_threads, os.cpu_count() or 1)
    rate = threads / each_s
    cost = settings.bcrypt_cost
    detail = f"cost {cost} takes {each_s * 1_000:.0f} ms; a restart re-verifies about {rate:.0f} keys a second"
    if 10_000 / rate > _SLOW_START_S:
        advice = "lower bcrypt_cost: 190 random bits gain nothing from a slow hash"
        return Finding("bcrypt", "warning", detail, advice)
    return Finding("bcrypt", "ok", detail)


async def _redis(settings: Settings) -> Finding:
    """Say whether the limiter's Redis may forget counters in use, and what a crash of it would cost (P4)."""
    try:
        found = await examine_redis(RedisAddress.parse(settings.redis))
    except (ValueError, LimiterAwayError) as error:
        return Finding("redis", "failed", str(error), "until it answers, plans decide as their on_limiter_outage says")
    loss = _CRASH_LOSSES.get(found.append_fsync, "does not tell its appendfsync")
    detail = f"{found.version} answers in {found.answered_in_ms:.1f} ms; {loss}"
    if found.role not in {"master", "primary"}:
        return Finding("redis", "failed", detail, f"it is a {found.role}: name the primary")
    if found.maxmemory_policy != "noeviction":
        policy = found.maxmemory_policy or "not told"
        detail = f"{detail}; maxmemory-policy is {policy}"
        return Finding("redis", "warning", detail, "set maxmemory-policy noeviction, or counters in use are forgotten")
    return Finding("redis", "ok", detail)


def _listeners(settings: Settings) -> Finding:
    if settings.insecure and settings.tls_cert is None:
        return Finding("transport", "warning", "listeners may be reached in the clear", "give --tls-cert and --tls-key")
    return Finding("transport", "ok", f"gRPC {settings.grpc}, HTTP {settings.http}")
