"""Where journals lie: DATA/journal/<journal id>/<number>.segment, each directory locked while its process lives.

A lock that can be had means that the process is gone, however it went. One more lock, of all journals, is held while a
directory is made, taken over or deleted, so that nobody takes a half-made one for a dead one.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
import stat
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from zlib import crc32

from keystead.kernel.ids import is_id
from keystead.usage.records import JOURNAL_PREFIX

FILE_BYTES_MAX = 256 * 1024 * 1024
_LOCK_FILE = "lock"
_PLACES_FILE = "places"
_KEPT_FOLDER = "damaged"
_KEPT_MAX = 64
_SEGMENT = ".segment"
_DIGITS = 8
_SLOT = struct.Struct("<QQQI")
_SLOT_BYTES = 32
_SLOTS = 2


def segment_file(folder: Path, number: int) -> Path:
    """Name the file of a segment."""
    return folder / f"{number:0{_DIGITS}d}{_SEGMENT}"


def mapped_file(file: Path, length: int) -> mmap.mmap:
    """Make a file with its room reserved and map it, all zero; raise ``OSError`` when there is no room."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, length)
        return mmap.mmap(descriptor, length, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    except OSError:
        file.unlink()
        raise
    finally:
        os.close(descriptor)


def segment_numbers(folder: Path) -> list[int]:
    """Return the numbers that files of ``folder`` have in their names, in order."""
    names = [entry.name.removesuffix(_SEGMENT) for entry in os.scandir(folder) if entry.name.endswith(_SEGMENT)]
    return sorted(int(name) for name in names if len(name) >= _DIGITS and name.isascii() and name.isdigit())


def read_file(file: Path) -> bytes | None:
    """Read what a file of a dead process holds, at most 256 MiB; None when it cannot be read or is no file.

    It is copied rather than mapped: a bad disk is an error then and not the end of the process.
    """
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(file, flags)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        with os.fdopen(descriptor, "rb", closefd=False) as opened:
            return opened.read(FILE_BYTES_MAX)
    except OSError:
        return None
    finally:
        os.close(descriptor)


@contextmanager
def all_journals(root: Path) -> Iterator[None]:
    """Hold the lock of all journals; whoever has it has it for an instant."""
    descriptor = os.open(root / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@dataclass(slots=True)
class JournalDirectory:
    """The directory of one journal, locked by this process."""

    journal_id: str
    path: Path
    _lock: int

    @classmethod
    def made(cls, root: Path, journal_id: str) -> Self:
        """Make a new journal's directory; raise ``OSError`` when that cannot be."""
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with all_journals(root):
            path = root / journal_id
            path.mkdir(mode=0o700)
            held = cls._held(path)
            if held is None:  # pragma: no cover -- nobody else takes a lock while that of all journals is held
                raise BlockingIOError(f"{path} is locked")
            return held

    @classmethod
    def taken_over(cls, root: Path, known: set[str]) -> list[Self]:
        """Lock the directories of processes that are gone, without those in ``known``, the oldest first."""
        with all_journals(root):
            names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False))
            paths = [root / name for name in names if name not in known and is_id(name, JOURNAL_PREFIX)]
            return [held for path in paths if (held := cls._held(path)) is not None]

    @classmethod
    def _held(cls, path: Path) -> Self | None:
        try:
            lock = os.open(path / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        return cls(path.name, path, lock)

    def let_go(self) -> None:
        """Unlock the directory, for whoever comes next."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def remove(self, *, keep: Iterable[int] = ()) -> None:
        """Delete the directory; what cannot be deleted now is found again at the next start.

        The segments in ``keep`` could not be read, which may not be their fault: they go to ``damaged`` beside the
        journals, for people to look at, as long as that holds fewer than 64.
        """
        with all_journals(self.path.parent):
            for number in keep:
                self._keep(segment_file(self.path, number))
            shutil.rmtree(self.path, ignore_errors=True)
            self.let_go()

    def _keep(self, file: Path) -> None:
        kept = self.path.parent / _KEPT_FOLDER
        with suppress(OSError):
            kept.mkdir(mode=0o700, exist_ok=True)
            if len(list(kept.iterdir())) < _KEPT_MAX:
                file.rename(kept / f"{self.journal_id}.{file.name}")


class Places:
    """Between which places the last stretch lies that was handed out: written before it is, so it stays the same.

    Two slots with checksums, written in turn into a file that is as long as it will ever be: one is always whole.
    """

    def __init__(self, folder: Path) -> None:
        """Open or make the file in ``folder``; a damaged one counts as none."""
        self._file = os.open(folder / _PLACES_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        held = os.pread(self._file, _SLOT_BYTES * _SLOTS, 0)
        if len(held) < _SLOT_BYTES * _SLOTS:
            held = held.ljust(_SLOT_BYTES * _SLOTS, b"\0")
            os.pwrite(self._file, held, 0)
        slots = [_SLOT.unpack_from(held, index * _SLOT_BYTES) for index in range(_SLOTS)]
        good = [slot[:3] for slot in slots if crc32(_SLOT.pack(*slot[:3], 0)) == slot[3]]
        self._turn, self.begin, self.end = max(good, default=(0, 0, 0))

    def write(self, begin: int, end: int) -> None:
        """Note that the stretch from ``begin`` to ``end`` is handed out; an empty one says what is counted."""
        self._turn += 1
        self.begin, self.end = begin, end
        crc = crc32(_SLOT.pack(self._turn, begin, end, 0))
        os.pwrite(self._file, _SLOT.pack(self._turn, begin, end, crc), self._turn % _SLOTS * _SLOT_BYTES)

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
