"""P10 and P12 for the journal alone: a full disk is an answer, never a signal, and over when there is room again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from keystead.adapters.files.journal import WhenFull
from keystead.usage.errors import JournalFullError
from tests.journals import SEGMENT_BYTES, CountedKey, JournalWorld, drained
from tests.services import find_program

DISK_BYTES = 16 * SEGMENT_BYTES
SEGMENTS_MAX_WITHOUT_DISK = 12


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """Lend a small file system to root, else a directory, with how many segments a journal may have there."""
    mount = tmp_path / "disk"
    mount.mkdir()
    command = [find_program("mount"), "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "tmpfs", str(mount)]
    mounted = (
        os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0
    )
    try:
        yield mount, (1_000 if mounted else SEGMENTS_MAX_WITHOUT_DISK)
    finally:
        if mounted:
            subprocess.run([find_program("umount"), "--lazy", str(mount)], check=True, timeout=30)


@pytest.mark.parametrize("when_full", ("refuse", "drop_and_count"))
def test_a_full_disk(small_disk: tuple[Path, int], when_full: WhenFull) -> None:
    """Either nothing is answered uncounted, or what was dropped is known exactly; what was counted makes room."""
    path, segments_max = small_disk
    world = JournalWorld(path, segments_max=segments_max, when_full=when_full)
    key, given, refused = CountedKey(), 0, 0
    for given in range(1, 40_001):  # noqa: B007 -- how far it came is what is asked
        try:
            world.verdict(key)
        except JournalFullError:
            refused += 1
            if refused == 100:
                break
    kept = drained(world.stretches, world.journal_id, at_most=50)
    assert kept == world.calls[: len(kept)]
    assert len(kept) == given - refused - world.journal.dropped
    assert (refused, world.journal.dropped > 0) == ((100, False) if when_full == "refuse" else (0, True))
    world.clock.advance(100)
    later = [world.verdict(key) for _ in range(1_000)]
    assert drained(world.stretches, world.journal_id, at_most=50) == later
    world.journal.let_go()
