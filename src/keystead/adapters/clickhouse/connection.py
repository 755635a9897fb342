"""A way to ClickHouse: a server's HTTP port, or the engine itself inside this process (chDB).

The client blocks, so it never runs on the event loop: questions have a thread of their own and so has what is written.
One thread writes, so what it does is done one after the other, which is what counting leans on.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError, OperationalError, ProgrammingError

from keystead.kernel.errors import StartError, UnavailableError

DATABASE_DEFAULT = "keystead"
RETRY_AFTER_MS = 1_000

# The server gives an insert up before its client does, so nothing is stored any more when it is tried again.
_TIMEOUT_S = 30
_INSERT_TIMEOUT_S = 20
_PORTS = {"clickhouse": 8123, "clickhouses": 8443}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_PUBLIC = "The usage store cannot answer right now; try again."
# ClickHouse's own numbers for: no room, no time, no memory, too much at once, too many parts, read-only, shut down,
# network, no such database or user.
_OUT_OF_REACH = frozenset({74, 75, 76, 81, 159, 160, 164, 198, 202, 209, 210, 236, 241, 242, 243, 252, 279, 516})

Answer = TypeVar("Answer")
Row = Sequence[Any]


class UsageStoreError(StartError):
    """Raised when the usage store that is named cannot be used as it is."""

    code = "usage_store_unusable"

    def __init__(self, description: str) -> None:
        """Say what is wrong and what to do."""
        super().__init__(public=f"usage_store (KEYSTEAD_USAGE_STORE): {description}.")


@dataclass(frozen=True, slots=True)
class Target:
    """Where usage is kept. An empty ``host`` is the engine inside this process, with its files in ``folder``."""

    host: str
    port: int
    username: str
    password: str
    secure: bool
    database: str
    folder: Path

    @classmethod
    def parse(cls, url: str, data_dir: Path) -> Target:
        """Read ``clickhouse://USER:PASSWORD@HOST:PORT/DATABASE`` (``clickhouses://`` with TLS) or ``chdb:``."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise UsageStoreError("has no port that could be one") from None
        if url == "chdb:":
            return cls("", 0, "", "", secure=False, database=DATABASE_DEFAULT, folder=data_dir / "chdb")
        database = parts.path.removeprefix("/") or DATABASE_DEFAULT
        if parts.scheme not in _PORTS or not parts.hostname or parts.query or not _NAME.fullmatch(database):
            raise UsageStoreError("must be clickhouse://USER:PASSWORD@HOST:PORT/DATABASE, clickhouses://… or chdb:")
        return cls(
            host=parts.hostname,
            port=port or _PORTS[parts.scheme],
            username=unquote(parts.username or "default"),
            password=unquote(parts.password or ""),
            secure=parts.scheme == "clickhouses",
            database=database,
            folder=data_dir,
        )

    @property
    def embedded(self) -> bool:
        """Whether the engine runs inside this process."""
        return not self.host

    def client(self) -> Client:
        """Open a client; blocks. Raises ``UsageStoreError`` when there is nothing to talk to."""
        try:
            if self.embedded:
                return clickhouse_connect.get_client(interface="chdb", path=str(self.folder))
            return clickhouse_connect.get_client(
                host=self.host,
                port=self.port,
                username=self.username,
                password=self.password,
                secure=self.secure,
                connect_timeout=_TIMEOUT_S,
                send_receive_timeout=_TIMEOUT_S,
                autogenerate_session_id=False,
            )
        except ImportError:
            raise UsageStoreError("needs what `pip install keystead[clickhouse]` installs") from None
        except (ClickHouseError, OSError) as error:
            where = str(self.folder) if self.embedded else f"{self.host}:{self.port}"
            raise UsageStoreError(f"{where} cannot be used ({_first_line(error)})") from error


class Lane:
    """One client, used by one thread; every statement names its tables without their database."""

    def __init__(self, target: Target) -> None:
        """Open it; blocks."""
        self._client = target.client()
        self._database = target.database
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="clickhouse")

    async def run(self, work: Callable[[Lane], Answer]) -> Answer:
        """Do ``work`` in the thread. Raises ``UnavailableError`` when ClickHouse cannot do it now."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._answered, work)

    def rows(self, statement: str, values: Mapping[str, Any] | None = None) -> Sequence[Row]:
        """Ask; ``values`` are bound, never written into the statement. Only inside ``run``."""
        return self._client.query(self._placed(statement), parameters=dict(values or {})).result_rows

    def insert(
        self, table: str, columns: Mapping[str, Sequence[Any]], types: Mapping[str, str], *, token: str = ""
    ) -> None:
        """Insert ``columns`` as one block; with ``token``, once and no more. Only inside ``run``."""
        settings: dict[str, Any] = {
            "deduplicate_blocks_in_dependent_materialized_views": 1,
            "insert_deduplicate": 1 if token else 0,
            "insert_deduplication_token": token,
            "async_insert": 0,
            "max_insert_threads": 1,
            "max_threads": 2,
            # A view's sums stay one block, so that they are one part: no second level, which would make more of them.
            "group_by_two_level_threshold": 0,
            "group_by_two_level_threshold_bytes": 0,
            "max_block_size": 1_048_576,
            "max_insert_block_size": 1_048_576,
            "max_partitions_per_insert_block": 0,
            "max_execution_time": _INSERT_TIMEOUT_S,
            "optimize_on_insert": 0,  # the views have summed already
            "parallel_view_processing": 1,
        }
        self._client.insert(
            table,
            list(columns.values()),
            column_names=list(columns),
            column_type_names=[types[name] for name in columns],
            column_oriented=True,
            database=self._database,
            settings=settings,
        )

    def command(self, statement: str) -> None:
        """Change the schema. Only inside ``run``."""
        self._client.command(self._placed(statement))

    async def close(self) -> None:
        """Finish what is under way, and let go."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._client.close)
        self._thread.shutdown()

    def _answered(self, work: Callable[[Lane], Answer]) -> Answer:
        try:
            return work(self)
        except (ClickHouseError, OSError) as error:
            if not _out_of_reach(error):
                raise
            internal = f"{type(error).__name__}: {error}"[:500]
            raise UnavailableError(_PUBLIC, internal=internal, retry_after_ms=RETRY_AFTER_MS) from error

    def _placed(self, statement: str) -> str:
        """Put the database before each table; ``@`` stands for it, and its name is a plain word."""
        return statement.replace("@", f"{self._database}.")


class ClickHouse:
    """The database: a lane for questions and one for what is written."""

    def __init__(self, target: Target) -> None:
        """Open both; blocks."""
        self.target = target
        self.writer = Lane(target)
        self.reader = Lane(target)

    async def close(self) -> None:
        """Let go of both."""
        await self.reader.close()
        await self.writer.close()


def _out_of_reach(error: Exception) -> bool:
    if isinstance(error, OSError | OperationalError):
        return True
    return isinstance(error, DatabaseError) and not isinstance(error, ProgrammingError) and error.code in _OUT_OF_REACH


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__
