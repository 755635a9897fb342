"""The servers that tests may ask for. What is not installed fails the test that needs it; nothing is skipped."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.servers import KeysteadServer, ServerFarm
from tests.services import PrivatePostgres, PrivateRedis

hypothesis.settings.register_profile("house", deadline=None)  # a busy machine is not a failure
hypothesis.settings.load_profile("house")

# Tests start hundreds of programs; each would compile all its modules anew, which takes longer than what it is run for.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PrivatePostgres]:
    """Lend the one PostgreSQL of this run; a test that stops or freezes its server asks for ``own_postgres``."""
    server = PrivatePostgres()
    yield server
    server.remove()


@pytest.fixture
def postgres_url(postgres: PrivatePostgres) -> Iterator[str]:
    """Lend the URL of an empty database of the test's own."""
    name = f"test_{next(_numbers)}"
    yield postgres.create_database(name)
    postgres.drop_database(name)


@pytest.fixture
def own_postgres() -> Iterator[PrivatePostgres]:
    """Lend a PostgreSQL that no other test uses, to be stopped, killed and frozen."""
    server = PrivatePostgres()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def redis() -> Iterator[PrivateRedis]:
    """Lend the one Redis of this run; a test that stops, freezes or flushes its server asks for ``own_redis``."""
    server = PrivateRedis()
    yield server
    server.remove()


@pytest.fixture
def own_redis() -> Iterator[PrivateRedis]:
    """Lend a Redis that no other test uses, to be stopped, killed and frozen."""
    server = PrivateRedis()
    yield server
    server.remove()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[ServerFarm]:
    """Lend a farm of keystead servers, all of which end with the test."""
    farm = ServerFarm(tmp_path)
    yield farm
    farm.end()


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeysteadServer]:
    """Lend the one keystead server of this run, to tests that look at nothing but what they made there themselves."""
    farm = ServerFarm(Path(tmp_path_factory.mktemp("shared")))
    yield farm.start()
    farm.end()
