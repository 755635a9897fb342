"""`make try-grpc` finds what it needs and asks the right question."""

from __future__ import annotations

from pathlib import Path

import pytest

from keystead.gen.v1.keys_pb2 import Key
from tools.try_grpc import MissingSettingError, Settings, find_settings, request_for


def test_the_file_is_read_as_a_shell_reads_it(tmp_path: Path) -> None:
    """What `source data/env` understands, `make try-grpc` understands."""
    path = tmp_path / "env"
    path.write_text(
        "# keys\nexport KEYSTEAD_GRPC_TARGET='127.0.0.1:1'\n"
        'KEYSTEAD_MANAGEMENT_KEY=m=1\nexport KEYSTEAD_SAMPLE_KEY="s"\n'
    )
    assert find_settings({}, path) == Settings("127.0.0.1:1", "m=1", "s")


def test_the_environment_comes_first(tmp_path: Path) -> None:
    """A person can point the command elsewhere without editing a file."""
    path = tmp_path / "env"
    path.write_text("KEYSTEAD_GRPC_TARGET=a:1\nKEYSTEAD_MANAGEMENT_KEY=m\nKEYSTEAD_SAMPLE_KEY=s\n")
    assert find_settings({"KEYSTEAD_GRPC_TARGET": "b:2"}, path).address == "b:2"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    """Who starts in the wrong order reads what to do, and no secret."""
    with pytest.raises(MissingSettingError, match=r"KEYSTEAD_GRPC_TARGET, KEYSTEAD_SAMPLE_KEY: .*make up") as caught:
        find_settings({"KEYSTEAD_MANAGEMENT_KEY": "hidden"}, tmp_path / "env")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(("key", "environment"), (("acme_live_x", Key.LIVE), ("acme_test_x", Key.TEST), ("", Key.LIVE)))
def test_the_environment_is_the_keys_own(key: str, environment: Key.Environment.ValueType) -> None:
    """A management key of both environments must say which; the secret itself does."""
    assert request_for(key).environment == environment
