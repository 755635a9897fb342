"""The data directory: locked by one server, readable by its owner alone, home of the embedded default's master key."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from keystead.adapters.cryptography.keyring import MASTER_KEY_BYTES, decode_master_key
from keystead.kernel.errors import StartError

_MASTER_KEY_FILE = "master.key"
_LOCK_FILE = "lock"
_NODE_FILE = "node"
_NODE_BYTES_MAX = 100


class DataDirectoryLockedError(StartError):
    """Raised when another server uses the data directory."""

    code = "data_directory_locked"

    def __init__(self, path: Path) -> None:
        """Say which directory."""
        super().__init__(public=f"Another keystead server uses {path}; stop it, or give another --data-dir.")


class DataDirectoryError(StartError):
    """Raised when the data directory, or a file in it, cannot be used as it is."""

    code = "data_directory_unusable"

    def __init__(self, path: Path, description: str) -> None:
        """Say what is wrong with what."""
        super().__init__(public=f"{path}: {description}.")


def prepare(path: Path) -> None:
    """Make the directory, for its owner alone, when it is not there."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise DataDirectoryError(path, f"cannot be made ({error.strerror})") from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the directory's lock; the kernel lets go of it when the process ends, however it ends."""
    if not path.is_dir():
        raise DataDirectoryError(path, "is not there; `keystead up` or `keystead migrate` makes it")
    try:
        descriptor = os.open(path / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DataDirectoryError(path, f"cannot be written to ({error.strerror})") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataDirectoryLockedError(path) from None
        yield
    finally:
        os.close(descriptor)


def last_node(path: Path) -> str:
    """Return the id of the process that served from this directory before; empty when nobody knows.

    Whoever holds the lock knows that it is dead.
    """
    try:
        with (path / _NODE_FILE).open("rb") as file:
            return file.read(_NODE_BYTES_MAX).decode("ascii", "replace").strip()
    except OSError:
        return ""


def name_node(path: Path, node_id: str) -> None:
    """Write down the id of this process for the next one; what cannot be written is no more than a longer wait."""
    written = path / f"{_NODE_FILE}.new"
    with suppress(OSError):
        written.write_text(f"{node_id}\n", encoding="ascii")
        written.replace(path / _NODE_FILE)


def master_key(path: Path, *, create: bool) -> bytes | None:
    """Read the directory's own master key, make one when ``create`` and there is none, else return None.

    It is written whole under another name and linked into place, so a crash leaves either no key or a good one.
    """
    file = path / _MASTER_KEY_FILE
    if not file.exists() and create:
        prepare(path)
        try:
            _write_once(file, secrets.token_bytes(MASTER_KEY_BYTES).hex() + "\n")
        except OSError as error:
            raise DataDirectoryError(file, f"cannot be written ({error.strerror})") from error
    if not file.exists():
        return None
    if file.stat().st_mode & 0o077:
        raise DataDirectoryError(file, "can be read by others; run chmod 600 on it")
    try:
        return decode_master_key(file.read_text(encoding="ascii"))
    except (ValueError, OSError) as error:
        raise DataDirectoryError(file, f"holds no master key ({type(error).__name__})") from None


def _write_once(file: Path, text: str) -> None:
    fresh = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, text.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        os.link(fresh, file)
    except FileExistsError:
        pass  # another process was first; its key is the one
    finally:
        fresh.unlink()
    folder = os.open(file.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)  # without it a power cut could take the name away, and with it every secret
    finally:
        os.close(folder)
