"""What the commands of a server say before and beside serving: settings, files of keys, the first screen."""

from __future__ import annotations

import json
import shlex
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from keystead.bootstrap import Running
from keystead.cli.config import describe
from keystead.cli.flags import LISTENER_FLAGS, PLACE_FLAGS
from keystead.cli.saved_keys import KeyFiles, SavedKeys, database_name, reachable
from keystead.cli.server_settings import settings_from, without_password
from keystead.cli.up import announcement
from keystead.cli.welcome import Welcome, curl_command, welcome_lines
from keystead.config import Settings, load_settings
from tests.unit.cli.conftest import CommandLine, problem_in

SAVED = SavedKeys(
    workspace_id="wsp_1",
    management_key="keystead_live_" + "m" * 58,
    sample_key="acme_live_" + "s" * 58,
    sample_key_id="key_1",
    sample_owner_id="sample",
    database="embedded",
)
SERVER = Running(grpc="127.0.0.1:50051", http="http://127.0.0.1:8080")


def test_every_setting_is_documented() -> None:
    """A setting has a sentence; a number has bounds, and a unit where there is one to name."""
    for setting in describe(load_settings()):
        assert setting.description.endswith("."), setting.name
        assert setting.variable == f"KEYSTEAD_{setting.name.upper()}"
        number = Settings.model_fields[setting.name].annotation is int
        assert (not number) or " to " in setting.bounds, setting.name
        assert (not setting.name.endswith(("_ms", "_bytes"))) or setting.unit, setting.name


def test_config_shows_every_setting(run_alone: CommandLine) -> None:
    """People and programs see the same table, and where each value would be set."""
    shown = json.loads(run_alone("config", "--json", "--http", "127.0.0.1:1").stdout)["settings"]
    assert {setting["name"] for setting in shown} == set(Settings.model_fields)
    (http,) = [setting for setting in shown if setting["name"] == "http"]
    assert (http["value"], http["unit"], http["variable"]) == ("127.0.0.1:1", "HOST:PORT", "KEYSTEAD_HTTP")
    table = run_alone("config").stdout
    assert all(f"KEYSTEAD_{name.upper()}" in table for name in Settings.model_fields)


def test_config_shows_no_secret(run_alone: CommandLine) -> None:
    """Master keys and a database's password are never printed, in neither form."""
    hidden = "00" * 31 + "aa"
    database = "postgresql://keystead:pa55word@db.internal/keystead"
    for words in (("config",), ("config", "--json")):
        result = run_alone(*words, KEYSTEAD_MASTER_KEYS=hidden, KEYSTEAD_DATABASE=database)
        assert result.exit_code == 0
        assert hidden not in result.output
        assert "pa55word" not in result.output
        assert "keystead:***@db.internal" in result.output
        assert "(set)" in result.output


@pytest.mark.parametrize(
    ("url", "shown"),
    (
        ("", ""),
        ("sqlite:///data/x.db", "sqlite:///data/x.db"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("postgresql://u:p@h:1/d", "postgresql://u:***@h:1/d"),
        ("postgresql://u:p%40@[::1]:1/d", "postgresql://u:***@[::1]:1/d"),
        ("http://[", "(not a URL)"),
    ),
)
def test_passwords_are_taken_out_of_urls(url: str, shown: str) -> None:
    """What is left still tells which database is meant."""
    assert without_password(url) == shown


def test_every_flag_is_a_setting() -> None:
    """A flag of the server sets the setting of its name, and what is not given is left to file and environment."""
    assert settings_from({"config_file": None, "grpc": None, "insecure": None}) == load_settings()
    found = settings_from({"config_file": None, "grpc": "127.0.0.1:1", "grpc_engine": "grpcio", "insecure": True})
    assert (found.grpc, found.grpc_engine, found.insecure) == ("127.0.0.1:1", "grpcio", True)
    assert len({*LISTENER_FLAGS, *PLACE_FLAGS}) == len(LISTENER_FLAGS) + len(PLACE_FLAGS)


@pytest.mark.parametrize("words", (("up",), ("serve",), ("config",), ("doctor",), ("migrate",), ("bootstrap",)))
def test_a_bad_setting_is_a_usage_error(run_alone: CommandLine, words: tuple[str, ...]) -> None:
    """A setting out of bounds is named by its variable and nothing is started, made or changed."""
    result = run_alone(*words, "--json", KEYSTEAD_BCRYPT_COST="99")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "KEYSTEAD_BCRYPT_COST" in problem_in(result)["message"]


def test_keys_are_kept_for_their_owner_alone(tmp_path: Path) -> None:
    """Both files have mode 0600, whatever the umask, and read back as they were written."""
    files = KeyFiles(tmp_path / "data")
    files.write(SAVED)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (files.json, files.env)} == {0o600}
    assert files.read("embedded") == SAVED
    assert files.read("another") is None
    assert sorted(path.name for path in files.folder.iterdir()) == ["env", "first-run.json"]


def test_keys_are_not_in_reprs() -> None:
    """A traceback or a log that shows the object shows no key."""
    assert "mmm" not in repr(SAVED)
    assert "sss" not in repr(SAVED)


def test_a_failed_write_leaves_what_was(tmp_path: Path) -> None:
    """When the folder cannot be written to, the error says so and the old keys stand."""
    files = KeyFiles(tmp_path)
    files.write(SAVED)
    files.env.unlink()
    files.env.mkdir()
    with pytest.raises(OSError, match="directory"):
        files.write(replace(SAVED, http="http://x"))
    assert files.read("embedded") is not None
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_keys_of_another_workspace_are_set_aside(tmp_path: Path) -> None:
    """A second database in the same folder does not cost the keys of the first."""
    files = KeyFiles(tmp_path)
    files.write(SAVED)
    files.write(replace(SAVED, workspace_id="wsp_2", database="db.internal/x"))
    assert json.loads((tmp_path / "first-run.wsp_1.json").read_text())["management_key"] == SAVED.management_key
    assert files.read("db.internal/x") is not None


@pytest.mark.parametrize("text", ("", "{", "[]", '{"workspace_id": "x"}'))
def test_a_broken_file_is_no_file(tmp_path: Path, text: str) -> None:
    """Whatever somebody did to first-run.json, the service starts."""
    files = KeyFiles(tmp_path)
    files.json.write_text(text)
    assert files.read("embedded") is None
    files.write(SAVED)
    assert files.read("embedded") == SAVED


def test_the_env_file_can_be_sourced(tmp_path: Path) -> None:
    """A shell gets every variable exactly, whatever characters are in it."""
    files = KeyFiles(tmp_path)
    files.announce(replace(SAVED, sample_key="a'b $c"), http="http://0.0.0.0:1", grpc="[::]:2")
    names = '"$KEYSTEAD_URL" "$KEYSTEAD_GRPC_TARGET" "$KEYSTEAD_SAMPLE_KEY"'
    script = f'. {shlex.quote(str(files.env))}; printf "%s|" {names}'
    shell = ["/bin/sh", "-c", script]
    found = subprocess.run(shell, capture_output=True, text=True, check=True, timeout=10)
    assert found.stdout == "http://127.0.0.1:1|[::1]:2|a'b $c|"


def test_addresses_of_every_interface_are_called_by_loopback() -> None:
    """0.0.0.0 is where one listens and not where one calls."""
    assert reachable("https://0.0.0.0:1") == "https://127.0.0.1:1"
    assert reachable("10.0.0.1:1") == "10.0.0.1:1"


def test_a_database_is_named_without_its_password() -> None:
    """The name that keys are kept under may stand in a file that is shown around."""
    assert database_name(load_settings(database="postgresql://u:p@h/d")) == "h/d"
    assert database_name(load_settings()) == "embedded"


def welcome(
    saved: SavedKeys | None = SAVED, *, first: bool = True, show_keys: bool = True, tls: bool = False
) -> list[str]:
    """Compose the first screen, as plain lines."""
    files = {"tls_cert": Path("my chain.pem"), "tls_key": Path("key.pem")} if tls else {}
    composed = welcome_lines(
        Welcome(
            server=SERVER,
            settings=load_settings(**files),
            files=KeyFiles(Path("data")),
            saved=saved,
            first=first,
            show_keys=show_keys,
            demo=True,
        )
    )
    return ["".join(text for text, _ in line) for line in composed]


def test_the_first_screen_says_what_there_is_and_what_to_try() -> None:
    """Where it listens, where the keys are, and three commands that stand on lines of their own, within 80 columns."""
    lines = welcome()
    text = "\n".join(lines)
    for part in (SERVER.grpc, SERVER.http, "data/first-run.json", "source data/env", "make try-grpc", "Demo:"):
        assert part in text
    assert f"   {curl_command().splitlines()[0]}" in lines
    (rotate,) = [line for line in lines if " keys rotate " in line]
    assert rotate.endswith(' keys rotate "$KEYSTEAD_SAMPLE_KEY_ID" --overlap 24h')
    assert [line for line in lines if len(line) > 80 and line != rotate] == []


def test_the_first_screen_shows_keys_once_and_only_to_a_person() -> None:
    """Each key stands alone on a line; without a terminal, or on a later run, there is none."""
    assert [welcome().count(f"  {key}") for key in (SAVED.management_key, SAVED.sample_key)] == [1, 1]
    for lines in (welcome(show_keys=False), welcome(first=False, show_keys=False)):
        assert "mmm" not in "\n".join(lines)
        assert "sss" not in "\n".join(lines)


def test_a_screen_with_tls_trusts_the_servers_own_certificate() -> None:
    """With TLS the pasted commands work without switching any check off, and none is offered that cannot."""
    lines = welcome(tls=True)
    text = "\n".join(lines)
    assert "--cacert 'my chain.pem' \\" in text
    assert "SSL_CERT_FILE='my chain.pem' " in text
    assert "make try-grpc" not in text
    assert "--insecure" not in text
    assert [line for line in lines if len(line) > 80 and " keys rotate " not in line] == []


def test_a_screen_without_keys_says_what_that_means() -> None:
    """A database set up elsewhere is served; nobody is told to source a file that is not there."""
    lines = welcome(None, first=False, show_keys=False)
    assert max(len(line) for line in lines) <= 80
    text = "\n".join(lines)
    assert "holds no keys for it" in text
    assert "source " not in text


def test_programs_are_told_the_same() -> None:
    """The object has the keys on the first run, and never again."""
    first = announcement(SERVER, SAVED, with_keys=True)
    assert list(first) == ["workspace_id", "management_key", "sample_key", "sample_key_id", "http", "grpc"]
    later = announcement(SERVER, SAVED, with_keys=False)
    assert list(later) == ["workspace_id", "sample_key_id", "http", "grpc"]
    assert announcement(SERVER, None, with_keys=False)["workspace_id"] is None
