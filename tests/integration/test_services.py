"""The tests' own servers do what the tests of failures rely on."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from tests.services import MissingProgramError, PrivatePostgres, PrivateRedis, find_program, is_running, wait_until

ROOT = Path(__file__).parents[2]


async def value(url: str, query: str) -> object:
    """Ask one question on a connection of its own."""
    connection = await asyncpg.connect(url, timeout=5)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_each_test_gets_an_empty_database(postgres_url: str) -> None:
    """No test sees what another wrote."""
    assert await value(postgres_url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0


async def test_what_was_committed_survives_a_killed_postgres(own_postgres: PrivatePostgres) -> None:
    """A test of recovery sees the database's own recovery, on the same port."""
    url = own_postgres.create_database("kept")
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE facts AS SELECT 42 AS fact")
    own_postgres.kill()
    own_postgres.restart()
    assert own_postgres.url("kept") == url
    assert await value(url, "SELECT fact FROM facts") == 42
    await connection.close(timeout=1)


def test_a_frozen_postgres_hangs_until_it_is_thawed(own_postgres: PrivatePostgres) -> None:
    """A frozen server is neither closed nor answering: the failure that only a timeout notices."""
    own_postgres.freeze()
    assert not own_postgres.answers()
    own_postgres.thaw()
    assert wait_until(own_postgres.answers, timeout_s=10)


def test_redis_comes_back_empty_on_its_port(own_redis: PrivateRedis) -> None:
    """A test of a lost limiter state gets one by a restart."""
    url = own_redis.url()
    own_redis.kill()
    assert not own_redis.answers()
    own_redis.restart()
    assert own_redis.answers()
    assert own_redis.url() == url


def test_a_missing_program_is_named() -> None:
    """Whoever lacks a server reads which one and what to run."""
    with pytest.raises(MissingProgramError, match=r"no-such-server.*make services"):
        find_program("no-such-server")


def test_no_server_outlives_a_killed_test_run() -> None:
    """A test run that is killed at any instant leaves no process behind."""
    script = (
        "import os, signal; from tests.services import PrivateRedis; server = PrivateRedis();"
        "print(server.pid, server.folder, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, timeout=60, check=False)
    pid, folder = killed.stdout.decode().split()
    shutil.rmtree(folder)
    assert wait_until(lambda: not is_running(int(pid)), timeout_s=10)
