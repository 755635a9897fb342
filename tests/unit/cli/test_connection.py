"""Where a command calls and as whom: one source, and no key where it does not belong."""

from __future__ import annotations

from pathlib import Path

import pytest

from keystead.cli.connection import find_connection
from keystead.cli.problems import CommandError, ExitCode
from tests.unit.cli.conftest import CommandLine
from tests.unit.cli.stub_server import MANAGEMENT_KEY, StubServer

PROFILES = """
[default]
url = "https://default.example"
management_key = "keystead_live_default"

[staging]
url = "https://staging.example/"
management_key_file = "staging.key"
ca_file = "/etc/staging.pem"

[both]
management_key = "keystead_live_x"
management_key_file = "x"

[odd]
managment_key = "keystead_live_x"
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Lend a configuration directory with profiles that only their owner reads."""
    folder = tmp_path / "keystead"
    folder.mkdir()
    for name, text in (("profiles.toml", PROFILES), ("staging.key", "keystead_live_staging\n")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    return tmp_path


def environment(home: Path, **more: str) -> dict[str, str]:
    """Make an environment whose profiles are in ``home``."""
    return {"XDG_CONFIG_HOME": str(home), **more}


@pytest.mark.parametrize(
    ("profile", "more", "url", "key"),
    (
        (None, {}, "https://default.example", "keystead_live_default"),
        (None, {"KEYSTEAD_PROFILE": "staging"}, "https://staging.example", "keystead_live_staging"),
        ("staging", {"KEYSTEAD_MANAGEMENT_KEY": "k", "KEYSTEAD_URL": "https://u"}, "https://staging.example", None),
        (None, {"KEYSTEAD_MANAGEMENT_KEY": "k", "KEYSTEAD_PROFILE": "staging"}, "http://127.0.0.1:8080", "k"),
        (None, {"KEYSTEAD_MANAGEMENT_KEY": "k", "KEYSTEAD_URL": "https://u:1/"}, "https://u:1", "k"),
    ),
)
def test_url_and_key_come_from_one_source(
    home: Path, profile: str | None, more: dict[str, str], url: str, key: str | None
) -> None:
    """A profile by flag outranks the environment, which outranks other profiles; nothing is mixed."""
    found = find_connection(environment(home, **more), profile=profile)
    assert (found.url, found.management_key.reveal()) == (url, key or "keystead_live_staging")


def test_a_profile_names_its_certificates(home: Path) -> None:
    """A private certificate authority is a matter of the profile."""
    assert find_connection(environment(home), profile="staging").ca_file == Path("/etc/staging.pem")
    assert find_connection(environment(home), profile="default").ca_file is None


def test_a_url_without_a_key_is_not_completed(home: Path) -> None:
    """The default profile's key does not go to a URL from the environment."""
    with pytest.raises(CommandError, match="KEYSTEAD_MANAGEMENT_KEY is not"):
        find_connection(environment(home, KEYSTEAD_URL="https://elsewhere.example"), profile=None)


@pytest.mark.parametrize("name", ("both", "odd", "missing"))
def test_a_wrong_profile_says_so(home: Path, name: str) -> None:
    """A profile with two keys, with a misspelt field, or that is not there, is never guessed at."""
    with pytest.raises(CommandError, match=name):
        find_connection(environment(home), profile=name)


@pytest.mark.parametrize("file", ("profiles.toml", "staging.key"))
def test_a_key_that_others_may_read_is_warned_of(home: Path, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever left the file open learns how to close it; the command goes on."""
    name = "default" if file == "profiles.toml" else "staging"
    find_connection(environment(home), profile=name)
    assert capsys.readouterr().err == ""
    (home / "keystead" / file).chmod(0o640)
    find_connection(environment(home), profile=name)
    assert f"chmod 600 {home / 'keystead' / file}" in capsys.readouterr().err


def test_broken_toml_is_not_quoted(home: Path) -> None:
    """The line that breaks the file may be the one with the key."""
    (home / "keystead" / "profiles.toml").write_text('[default]\nmanagement_key = "keystead_live_hidden\n')
    with pytest.raises(CommandError) as caught:
        find_connection(environment(home), profile="default")
    assert "hidden" not in caught.value.problem.message
    assert caught.value.problem.exit_code is ExitCode.USAGE


@pytest.mark.parametrize(
    "url", ("ftp://h", "h:80", "https://", "https://name:password@h", "https://h?q=1", "https://[")
)
def test_only_a_plain_url_is_called(url: str, tmp_path: Path) -> None:
    """A URL with a password, or that is none, is refused before anything is sent, and not quoted."""
    with pytest.raises(CommandError) as caught:
        find_connection({"KEYSTEAD_URL": url, "KEYSTEAD_MANAGEMENT_KEY": "k", "HOME": str(tmp_path)}, profile=None)
    assert "password@" not in caught.value.problem.message


@pytest.mark.parametrize("key", ("a b", "a\nb", "ä"))
def test_a_key_that_cannot_travel_is_refused_unquoted(key: str) -> None:
    """A key with a line end would break out of its header."""
    with pytest.raises(CommandError) as caught:
        find_connection({"KEYSTEAD_MANAGEMENT_KEY": key}, profile=None)
    assert key not in caught.value.problem.message


def test_a_key_in_clear_over_a_network_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    """http:// is for this machine."""
    for url, warned in (
        ("http://127.0.0.1:1", False),
        ("http://[::1]:1", False),
        ("https://h", False),
        ("http://h", True),
    ):
        find_connection({"KEYSTEAD_URL": url, "KEYSTEAD_MANAGEMENT_KEY": "k"}, profile=None)
        assert ("in clear" in capsys.readouterr().err) is warned


def test_without_a_key_a_command_says_where_to_put_one(run_alone: CommandLine) -> None:
    """A newcomer is told of `source data/env` and of profiles; the exit code is that of a missing credential."""
    result = run_alone("keys", "list")
    assert result.exit_code == 4
    assert "source data/env" in result.stderr
    assert "profiles.toml" in result.stderr


def test_a_profile_works_end_to_end(stub: StubServer, run_alone: CommandLine, tmp_path: Path) -> None:
    """`--profile NAME` alone is enough to call a server."""
    folder = tmp_path / ".config" / "keystead"
    folder.mkdir(parents=True)
    (folder / "profiles.toml").write_text(f'[here]\nurl = "{stub.url}"\nmanagement_key_file = "here.key"\n')
    (folder / "here.key").write_text(MANAGEMENT_KEY + "\n")
    (folder / "here.key").chmod(0o600)
    assert run_alone("keys", "list", "--profile", "here", "--json").exit_code == 0
    assert len(stub.asked) == 1
