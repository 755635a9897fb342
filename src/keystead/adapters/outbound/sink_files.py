"""Carries CloudEvents to files of JSON lines in the one directory that the operator gave for them.

Each workspace has a directory of its own in there, so no name of one is ever a name of another's. What a batch left
unfinished when it was cut off, by a kill or a full disk, is taken back before the next one is written: a line that
stands is whole, and the sink's place moves only after the disk has it.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import re
import stat
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from keystead.kernel.clock import Clock
from keystead.sinks.drafts import ROTATED
from keystead.sinks.envelopes import Envelope
from keystead.sinks.model import FileDestination
from keystead.sinks.ports import Channel, Delivery, Reception

_FILE_MODE = 0o600
_DIRECTORY_MODE = 0o700
_TAIL_BYTES = 64 * 1024
_SAME_MOMENT_MAX = 1_000


class SinkFiles:
    """The files of all sinks of this process."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        """Write below ``directory``, which must be there; name full files by ``clock``."""
        self._directory = directory
        self._clock = clock

    @asynccontextmanager
    async def open(self, workspace_id: str, destination: FileDestination) -> AsyncIterator[Channel]:
        """Open the way to a file; nothing is touched yet."""
        yield _FileChannel(self._directory, self._clock, workspace_id, destination)


class _FileChannel:
    """The way to one file."""

    def __init__(self, directory: Path, clock: Clock, workspace_id: str, destination: FileDestination) -> None:
        self._directory = directory
        self._clock = clock
        self._workspace_id = workspace_id
        self._destination = destination

    async def send(self, batch: Sequence[Envelope]) -> Delivery:
        """Write a batch and have the disk keep it."""
        try:
            await asyncio.to_thread(self._write, batch)
        except OSError as error:
            return Delivery(Reception.FAILED, f"{self._destination.name}: {error.strerror or type(error).__name__}")
        return Delivery(Reception.ACCEPTED)

    def _write(self, batch: Sequence[Envelope]) -> None:
        lines = "".join(f"{it.text}\n" for it in batch).encode()
        with _opened_directory(self._directory, self._workspace_id) as directory:
            with _opened_file(directory, self._destination.name) as file:
                size = _whole_size(file)
                os.ftruncate(file, size)
                _append(file, lines, size)
                full = size + len(lines) >= self._destination.rotate_bytes
            if full:
                self._rotate(directory)

    def _rotate(self, directory: int) -> None:
        """Give the full file a name of its own, and forget the oldest beyond those that are kept."""
        name = self._destination.name
        moment = datetime.fromtimestamp(self._clock.now_ms() / 1_000, UTC)
        stamp = f"{name}.{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1_000:03d}Z"
        there = set(os.listdir(directory))
        free = (
            it for it in (stamp, *(f"{stamp}-{number}" for number in range(1, _SAME_MOMENT_MAX))) if it not in there
        )
        new = next(free, None)
        if new is None:
            raise OSError(errno.EEXIST, "too many files of one moment")
        os.rename(name, new, src_dir_fd=directory, dst_dir_fd=directory)
        if self._destination.keep_files:
            mine = re.compile(re.escape(name) + ROTATED)
            full = sorted(it for it in {*there, new} if mine.fullmatch(it))
            for old in full[: -self._destination.keep_files]:
                os.unlink(old, dir_fd=directory)
        os.fsync(directory)


@contextmanager
def _opened_directory(directory: Path, workspace_id: str) -> Iterator[int]:
    """Open a workspace's own directory, making it; neither it nor the one above may be a link that was put there."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    above = os.open(directory, flags)
    try:
        try:
            os.mkdir(workspace_id, _DIRECTORY_MODE, dir_fd=above)
        except FileExistsError:
            pass
        else:
            os.fsync(above)
        found = os.open(workspace_id, flags | os.O_NOFOLLOW, dir_fd=above)
    finally:
        os.close(above)
    try:
        yield found
    finally:
        os.close(found)


@contextmanager
def _opened_file(directory: int, name: str) -> Iterator[int]:
    """Open the file for this process alone, making it; raise ``OSError`` for a link, a pipe and the like."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    file = os.open(name, flags, _FILE_MODE, dir_fd=directory)
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            raise OSError(errno.EINVAL, "is no file of its own")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if found.st_size == 0:
            os.fsync(directory)
        yield file
    finally:
        os.close(file)


def _whole_size(file: int) -> int:
    """Return where the last whole line ends."""
    end = os.fstat(file).st_size
    while end:
        begin = max(0, end - _TAIL_BYTES)
        found = os.pread(file, end - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


def _append(file: int, lines: bytes, size: int) -> None:
    """Write all lines behind ``size`` and have the disk keep them, or leave the file as it was."""
    try:
        done = 0
        while done < len(lines):
            done += os.pwrite(file, lines[done:], size + done)
        os.fsync(file)
    except OSError:
        os.ftruncate(file, size)
        raise
