"""P5 and P12: a full disk makes changes fail as UNAVAILABLE, with nothing half-done and every verdict counted; room
cures it.
"""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.clients import Client, client_for
from tests.databases import demand_order, events_by_target
from tests.polling import eventually
from tests.servers import KeysteadServer, ServerFarm
from tests.services import find_program

DISK_MIB = 32


class Disk(Protocol):
    """Where the data directory is, and how room is taken and given back."""

    data_dir: Path

    def fill(self, server: KeysteadServer) -> None:
        """Leave no room."""
        ...

    def free(self, server: KeysteadServer) -> None:
        """Give the room back."""
        ...


class SmallDisk:
    """A file system of its own in memory."""

    def __init__(self, mount: Path) -> None:
        """Use what is mounted at ``mount``."""
        self.data_dir = mount / "data"
        self._ballast = mount / "ballast"

    def fill(self, _server: KeysteadServer) -> None:
        """Write until nothing more can be written."""
        descriptor = os.open(self._ballast, os.O_WRONLY | os.O_CREAT)
        try:
            for size in (65_536, 1):
                while True:
                    os.write(descriptor, b"x" * size)
        except OSError:
            self._last_bytes(descriptor)
        finally:
            os.close(descriptor)

    def free(self, _server: KeysteadServer) -> None:
        """Delete what was written."""
        self._ballast.unlink()

    @staticmethod
    def _last_bytes(descriptor: int) -> None:
        try:
            while True:
                os.write(descriptor, b"x" * 512)
        except OSError:
            return


class SmallFiles:
    """A bound on how large any file of the process may be, where no file system can be mounted."""

    def __init__(self, data_dir: Path) -> None:
        """Use ``data_dir``."""
        self.data_dir = data_dir

    def fill(self, server: KeysteadServer) -> None:
        """Let no file grow past what the write-ahead log has now."""
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (4_096, resource.RLIM_INFINITY))

    def free(self, server: KeysteadServer) -> None:
        """Lift the bound."""
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Lend a disk that can be filled: a small file system for root, else a bound on the process's files."""
    mount = tmp_path / "disk"
    mount.mkdir()
    command = [find_program("mount"), "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=0700", "tmpfs", str(mount)]
    mounted = (
        os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0
    )
    try:
        yield SmallDisk(mount) if mounted else SmallFiles(mount / "data")
    finally:
        if mounted:
            subprocess.run([find_program("umount"), "--lazy", str(mount)], check=True, timeout=30)


async def make(client: Client) -> Any:
    """Ask for a key."""
    wanted: dict[str, Any] = {
        "owner_id": "o",
        "create_owner": True,
        "name": "Key",
        "environment": "LIVE",
        "plan_id": "enterprise",
        "metadata": {"pad": "x" * 400},
    }
    return await client.call("CreateKey", **wanted)


async def test_a_full_disk_stops_changes_and_nothing_else(servers: ServerFarm, disk: Disk) -> None:
    """Changes fail as UNAVAILABLE, each of them whole; keys verify, warm ones and cold ones; and as soon as there is
    room changes go through, without a restart, and the log is in order.
    """
    server = servers.start(data_dir=disk.data_dir, log_level="warning", staleness_bound_ms=2_000)
    try:
        async with client_for(server) as client:
            warm, cold, other = [(await make(client)).must() for _ in range(3)]
            assert await client.verify(warm.secret) == "VALID"
            disk.fill(server)

            async def refused() -> bool:
                answer = await make(client)
                assert answer.ok or answer.refusal == ("UNAVAILABLE", "UNAVAILABLE"), answer
                return not answer.ok

            await eventually(refused, within_s=20)  # what the log's last page had room for still went through
            for name in ("RotateKey", "SuspendKey", "RevokeKey"):
                answer = await client.call(name, key_id=other.key.id)
                assert answer.refusal == ("UNAVAILABLE", "UNAVAILABLE"), name
            assert await client.verify(warm.secret) == "VALID"
            assert await client.verify(cold.secret) == "VALID"
            assert await client.verify(other.secret) == "VALID"
            disk.free(server)

            async def goes_on() -> bool:
                return bool((await make(client)).ok)

            await eventually(goes_on, within_s=10)
            (await client.call("RevokeKey", key_id=other.key.id)).must()
            assert await client.verify(other.secret) == "REVOKED"

            async def all_counted() -> bool:
                answers = [await client.call("GetKeyUsage", key_id=it.key.id) for it in (warm, cold, other)]
                return [answer.must().calls for answer in answers] == [2, 1, 2]

            await eventually(all_counted, within_s=10)
        await events_by_target(server)
        await demand_order(server)
    finally:
        server.kill()  # before its disk goes
