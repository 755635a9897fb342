"""Files of sinks: whole lines, of one workspace each, whatever cuts a batch off."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import signal
import stat
from pathlib import Path

import pytest

from keystead.adapters.outbound.sink_files import SinkFiles
from keystead.sinks.envelopes import Envelope
from keystead.sinks.model import FileDestination
from keystead.sinks.ports import Delivery, Reception
from tests.fakes import OTHER_WORKSPACE_ID, WORKSPACE_ID, ManualClock

FILE = FileDestination("audit.jsonl", rotate_bytes=65_536)


def batch(first: int, count: int, *, characters: int = 10) -> list[Envelope]:
    """Make events."""
    return [
        Envelope(f"evt_{number}", json.dumps({"id": f"evt_{number}", "x": "x" * characters}))
        for number in range(first, first + count)
    ]


async def send(
    folder: Path,
    events: list[Envelope],
    destination: FileDestination = FILE,
    *,
    workspace_id: str = WORKSPACE_ID,
    clock: ManualClock | None = None,
) -> Delivery:
    """Write a batch as one process does."""
    async with SinkFiles(folder, clock or ManualClock()).open(workspace_id, destination) as channel:
        return await channel.send(events)


def ids(path: Path) -> list[str]:
    """Read a file: every line is whole, and JSON."""
    text = path.read_text(encoding="utf-8")
    assert not text or text.endswith("\n")
    return [json.loads(line)["id"] for line in text.splitlines()]


async def test_lines_are_written_in_order_for_the_owner_alone(tmp_path: Path) -> None:
    """A file holds one event on each line, in order, and nobody but the server's user reads it."""
    assert await send(tmp_path, batch(0, 3)) == Delivery(Reception.ACCEPTED)
    assert await send(tmp_path, batch(3, 2)) == Delivery(Reception.ACCEPTED)
    path = tmp_path / WORKSPACE_ID / "audit.jsonl"
    assert ids(path) == [f"evt_{number}" for number in range(5)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_workspaces_never_share_a_file(tmp_path: Path) -> None:
    """One name in two workspaces is two files (P8)."""
    await send(tmp_path, batch(0, 1))
    await send(tmp_path, batch(7, 1), workspace_id=OTHER_WORKSPACE_ID)
    assert ids(tmp_path / WORKSPACE_ID / "audit.jsonl") == ["evt_0"]
    assert ids(tmp_path / OTHER_WORKSPACE_ID / "audit.jsonl") == ["evt_7"]


@pytest.mark.parametrize("left", ("", '{"id":"evt_2"', "x" * 200_000))
async def test_a_half_line_is_cut_off(tmp_path: Path, left: str) -> None:
    """What a kill left half-written is gone before anything follows, however long it is."""
    await send(tmp_path, batch(0, 2))
    path = tmp_path / WORKSPACE_ID / "audit.jsonl"
    with path.open("a", encoding="utf-8") as file:
        file.write(left)
    await send(tmp_path, batch(2, 1))
    assert ids(path) == ["evt_0", "evt_1", "evt_2"]


async def test_a_file_with_nothing_whole_in_it_begins_anew(tmp_path: Path) -> None:
    """A first line that was cut off leaves an empty file."""
    (tmp_path / WORKSPACE_ID).mkdir()
    path = tmp_path / WORKSPACE_ID / "audit.jsonl"
    path.write_text('{"id"', encoding="utf-8")
    await send(tmp_path, batch(0, 1))
    assert ids(path) == ["evt_0"]


async def test_full_files_get_names_of_their_own(tmp_path: Path) -> None:
    """A full file is put aside under its time and never written again; nothing is lost between two files."""
    clock = ManualClock()
    for number in range(4):
        assert (await send(tmp_path, batch(number, 1, characters=66_000), clock=clock)).reception is Reception.ACCEPTED
        if number == 2:
            clock.advance(1_500)
    folder = tmp_path / WORKSPACE_ID
    found = sorted(folder.iterdir(), key=ids)
    assert [ids(path) for path in found] == [["evt_0"], ["evt_1"], ["evt_2"], ["evt_3"]]
    stamp = "audit.jsonl.20231114T221320.000Z"
    assert [path.name for path in found] == [stamp, f"{stamp}-1", f"{stamp}-2", "audit.jsonl.20231114T221321.500Z"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in found} == {0o600}
    await send(tmp_path, batch(4, 1), clock=clock)
    assert ids(folder / "audit.jsonl") == ["evt_4"]


async def test_so_many_full_files_are_kept(tmp_path: Path) -> None:
    """The oldest full files go; files of another name stay, also one whose name begins alike."""
    clock = ManualClock()
    kept = FileDestination("a", rotate_bytes=65_536, keep_files=2)
    folder = tmp_path / WORKSPACE_ID
    folder.mkdir()
    (folder / "a.b.20200101T000000.000Z").write_text("", encoding="utf-8")
    (folder / "a.20200101").write_text("", encoding="utf-8")
    for number in range(5):
        clock.advance(1_000)
        await send(tmp_path, batch(number, 1, characters=66_000), kept, clock=clock)
    assert sorted(path.name for path in folder.iterdir()) == [
        "a.20200101",
        "a.20231114T221324.000Z",
        "a.20231114T221325.000Z",
        "a.b.20200101T000000.000Z",
    ]


async def test_links_are_not_followed(tmp_path: Path) -> None:
    """Whoever can put a link into the directory cannot have another file written to."""
    other = tmp_path / "other"
    other.write_text("mine\n", encoding="utf-8")
    folder = tmp_path / "sinks"
    (folder / WORKSPACE_ID).mkdir(parents=True)
    (folder / WORKSPACE_ID / "soft").symlink_to(other)
    os.link(other, folder / WORKSPACE_ID / "hard")
    os.mkfifo(folder / WORKSPACE_ID / "pipe")
    (folder / WORKSPACE_ID / "folder").mkdir()
    (folder / OTHER_WORKSPACE_ID).symlink_to(tmp_path)
    for name in ("soft", "hard", "pipe", "folder"):
        assert (await send(folder, batch(0, 1), FileDestination(name))).reception is Reception.FAILED
    elsewhere = await send(folder, batch(0, 1), FileDestination("other"), workspace_id=OTHER_WORKSPACE_ID)
    assert elsewhere.reception is Reception.FAILED
    assert other.read_text(encoding="utf-8") == "mine\n"


async def test_a_directory_that_is_gone_is_a_failure(tmp_path: Path) -> None:
    """A disk that is not there takes nothing, and says so without a path."""
    delivery = await send(tmp_path / "gone", batch(0, 1))
    assert delivery.reception is Reception.FAILED
    assert delivery.reason == f"audit.jsonl: {os.strerror(errno.ENOENT)}"


async def test_a_file_that_another_writes_is_left_alone(tmp_path: Path) -> None:
    """Two processes never write into one file at once."""
    await send(tmp_path, batch(0, 1))
    with (tmp_path / WORKSPACE_ID / "audit.jsonl").open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert (await send(tmp_path, batch(1, 1))).reception is Reception.FAILED
    assert (await send(tmp_path, batch(1, 1))).reception is Reception.ACCEPTED
    assert ids(tmp_path / WORKSPACE_ID / "audit.jsonl") == ["evt_0", "evt_1"]


async def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """A batch that does not fit is taken back whole, and is written when there is room again (P12)."""
    await send(tmp_path, batch(0, 2))
    path = tmp_path / WORKSPACE_ID / "audit.jsonl"
    size = path.stat().st_size
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, before[1]))
    try:
        delivery = await send(tmp_path, batch(2, 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert delivery.reception is Reception.FAILED
    assert path.stat().st_size == size
    await send(tmp_path, batch(2, 20))
    assert ids(path) == [f"evt_{number}" for number in range(22)]
