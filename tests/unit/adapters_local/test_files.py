"""The data directory: one server, one owner, and a master key that is whole or not there."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from keystead.adapters.files.data_directory import (
    DataDirectoryError,
    DataDirectoryLockedError,
    locked,
    master_key,
    prepare,
)


def mode_of(path: Path) -> int:
    """Return the permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def test_the_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    """Nobody else looks into it; one that is there already stays as it is."""
    prepare(tmp_path / "deep" / "data")
    assert mode_of(tmp_path / "deep" / "data") == 0o700
    (tmp_path / "mine").mkdir(mode=0o750)
    before = mode_of(tmp_path / "mine")
    prepare(tmp_path / "mine")
    assert mode_of(tmp_path / "mine") == before


def test_one_server_at_a_time(tmp_path: Path) -> None:
    """While one holds the directory, another is refused with what to do; what is not there cannot be held."""
    folder = tmp_path / "data"
    with pytest.raises(DataDirectoryError), locked(folder):
        pass
    prepare(folder)
    with locked(folder):
        with pytest.raises(DataDirectoryLockedError) as caught, locked(folder):
            pass
        assert "--data-dir" in caught.value.public
    with locked(folder):
        assert mode_of(folder / "lock") == 0o600


def test_the_lock_is_let_go_when_the_server_fails(tmp_path: Path) -> None:
    """An exception does not leave the directory locked."""
    with pytest.raises(RuntimeError), locked(tmp_path):
        raise RuntimeError
    with locked(tmp_path):
        pass


def test_a_directory_that_cannot_be_used_is_told_by_name(tmp_path: Path) -> None:
    """A file in its place, or in the lock's, gives a coded error that names it."""
    (tmp_path / "file").touch()
    with pytest.raises(DataDirectoryError) as caught:
        prepare(tmp_path / "file" / "data")
    assert str(tmp_path / "file" / "data") in caught.value.public
    (tmp_path / "data" / "lock").mkdir(parents=True)
    with pytest.raises(DataDirectoryError), locked(tmp_path / "data"):
        pass


def test_a_master_key_is_made_once(tmp_path: Path) -> None:
    """32 random bytes, for the owner's eyes alone, the same ever after; without being asked none is made."""
    folder = tmp_path / "data"
    assert master_key(folder, create=False) is None
    made = master_key(folder, create=True)
    assert made is not None
    assert len(made) == 32
    assert master_key(folder, create=True) == master_key(folder, create=False) == made
    assert mode_of(folder / "master.key") == 0o600
    assert [path.name for path in folder.iterdir()] == ["master.key"]
    assert master_key(tmp_path / "other", create=True) != made


def test_two_processes_that_make_one_agree(tmp_path: Path) -> None:
    """Whoever comes second takes the first one's key: a crash or a race leaves no key or a good one."""
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda _: master_key(tmp_path, create=True), range(32)))
    assert len(made) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["master.key"]


@pytest.mark.parametrize("text", (b"", b"not a key", b"\xff" * 64))
def test_a_damaged_master_key_is_told_and_not_replaced(tmp_path: Path, text: bytes) -> None:
    """A new one would make every secret worthless; the error names the file and quotes nothing of it (P1)."""
    file = tmp_path / "master.key"
    file.write_bytes(text)
    file.chmod(0o600)
    with pytest.raises(DataDirectoryError) as caught:
        master_key(tmp_path, create=True)
    assert str(file) in caught.value.public
    assert "not a key" not in caught.value.public
    assert file.read_bytes() == text


def test_a_master_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """A careless copy is noticed before it is used, with the command that mends it."""
    master_key(tmp_path, create=True)
    (tmp_path / "master.key").chmod(0o640)
    with pytest.raises(DataDirectoryError) as caught:
        master_key(tmp_path, create=False)
    assert "chmod 600" in caught.value.public


def test_a_directory_that_takes_no_key_is_told() -> None:
    """Where the key cannot be written, a coded error names the file."""
    with pytest.raises(DataDirectoryError):
        master_key(Path("/proc/self/fd"), create=True)
