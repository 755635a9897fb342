"""What people see: states in words, countdowns, secrets that can be copied, all of it within 80 columns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from google.protobuf import json_format

from keystead.cli.keys.rendering import narrow_table, short_scopes, wide_table
from keystead.cli.message import Message
from keystead.cli.output import print_secret
from keystead.cli.painting import paint
from keystead.cli.tables import Table, cell, joined
from keystead.gen.v1 import keys_pb2, owners_pb2, workspaces_pb2
from tests.unit.cli.conftest import SECRET, CommandLine, in_seconds, rotating_key, sample_key
from tests.unit.cli.stub_server import StubServer, reply

States = keys_pb2.Key


def as_json(key: keys_pb2.Key) -> Message:
    """Write a key as the command line gets it."""
    found: Message = json_format.MessageToDict(key, always_print_fields_with_no_presence=True)
    return found


def painted(capsys: pytest.CaptureFixture[str], table: Table, *, columns: int) -> list[str]:
    """Paint a table on a terminal of so many columns, and take the colours off."""
    paint([table], columns=columns, terminal=False)
    return capsys.readouterr().out.splitlines()


def test_a_new_secret_stands_alone_on_the_last_line(stub: StubServer, run: CommandLine) -> None:
    """It can be copied with a triple click or taken with `tail -1`, and is said to be shown once, which it is."""
    stub.will_answer(reply(keys_pb2.CreateKeyResponse(key=sample_key(), secret=SECRET)))
    result = run("keys", "create", "--owner", "o", "--name", "n", "--environment", "live")
    assert result.stdout.splitlines()[-1] == SECRET
    assert result.output.count(SECRET) == 1
    assert "Nothing can show it again" in result.stdout


def test_a_management_key_stands_alone_on_the_last_line(stub: StubServer, run: CommandLine) -> None:
    """What holds for customers' secrets holds for the key to a whole workspace."""
    workspace = workspaces_pb2.Workspace(id="wsp_x", brand="acme", name="Acme", created_at=in_seconds(0))
    stub.will_answer(reply(workspaces_pb2.CreateWorkspaceResponse(workspace=workspace, secret=SECRET)))
    result = run("workspaces", "create", "--brand", "acme", "--name", "Acme")
    assert result.stdout.splitlines()[-1] == SECRET


def test_a_reply_without_its_secret_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """A retry that comes too late says that the secret is gone, and what to do."""
    print_secret("", what="secret")
    assert "Rotate the key" in capsys.readouterr().out


def test_json_is_the_reply_itself(stub: StubServer, run: CommandLine) -> None:
    """A program gets exactly what the server said, as one object, with the secret in it."""
    message = keys_pb2.RotateKeyResponse(key=rotating_key(), secret=SECRET)
    stub.will_answer(reply(message))
    result = run("keys", "rotate", "key_x", "--json")
    assert json_format.ParseDict(json.loads(result.stdout), keys_pb2.RotateKeyResponse()) == message


@pytest.mark.parametrize("state", ("ACTIVE", "SUSPENDED", "REVOKED", "EXPIRED"))
def test_a_state_is_a_word_and_a_symbol(stub: StubServer, run: CommandLine, state: str) -> None:
    """Nobody has to tell colours apart to see that a key does not work."""
    stub.will_answer(reply(keys_pb2.ListKeysResponse(keys=[sample_key(state=States.State.Value(state))])))
    row = run("keys", "list").stdout.splitlines()[1]
    symbol = {"ACTIVE": "●", "SUSPENDED": "◐", "REVOKED": "✕", "EXPIRED": "○"}[state]
    assert row.startswith(f"{symbol} {state.lower()} ")


def test_a_state_of_a_later_version_is_shown(stub: StubServer, run: CommandLine) -> None:
    """An older command line does not fail on what a newer server knows."""
    key = as_json(sample_key()) | {"state": "HIBERNATING"}
    stub.will_answer(reply(keys_pb2.GetKeyResponse(key=sample_key())))
    stub.answers[0] = type(stub.answers[0])(json.dumps({"key": key}).encode())
    assert "? hibernating" in run("keys", "get", "key_x").stdout


def test_a_pipe_has_one_line_for_each_key(stub: StubServer, run: CommandLine) -> None:
    """`grep` and `awk` find everything about a key on its line, unbroken and without colour."""
    long = sample_key(name="n" * 100, owner_id="o" * 60)
    stub.will_answer(reply(keys_pb2.ListKeysResponse(keys=[rotating_key(), long])))
    lines = run("keys", "list").stdout.splitlines()
    assert len(lines) == 3
    assert "acme_live_aaaaaaaaaaaa current, acme_live_bbbbbbbbbbbb 23 h left" in lines[1]
    assert "3 min ago" not in lines[1]
    assert "n" * 100 in lines[2]
    assert "\x1b" not in "".join(lines)


def test_a_narrow_screen_holds_everything(capsys: pytest.CaptureFixture[str]) -> None:
    """At 80 columns no line is longer, and no id, prefix or countdown is broken."""
    keys = [
        as_json(rotating_key()),
        as_json(sample_key(expires_at=in_seconds(90.5 * 86_400), scopes=["write:invoices", "admin:x"])),
    ]
    lines = painted(capsys, narrow_table(keys), columns=80)
    assert all(len(line) <= 80 for line in lines)
    text = "\n".join(lines)
    for part in (
        "key_01hzxsample0000000000000000",
        "acme_live_aaaaaaaaaaaa current",
        "acme_live_bbbbbbbbbbbb 23 h left",
    ):
        assert part in text
    assert "ends in 90 d" in text
    assert "never ends" in text


def test_a_wide_screen_breaks_no_id(capsys: pytest.CaptureFixture[str]) -> None:
    """At 160 columns a key's two secrets stand under one another, whole."""
    lines = painted(capsys, wide_table([as_json(rotating_key())], one_line=False), columns=160)
    assert all(len(line) <= 160 for line in lines)
    assert ["acme_live_aaaaaaaaaaaa current" in line for line in lines] == [False, True, False]
    assert "acme_live_bbbbbbbbbbbb 23 h left" in lines[2]


def test_many_scopes_are_shortened() -> None:
    """A long list says how long it is."""
    assert short_scopes([]) == ""
    assert short_scopes(["read:a"]) == "read:a"
    assert short_scopes(["read:a", "write:a", "admin:a", "x:a"]) == "read:a, write:a +2"
    assert short_scopes(["read:" + "a" * 40, "write:a"]) == "read:" + "a" * 40 + " +1"


def test_a_key_shows_its_rotation(stub: StubServer, run: CommandLine) -> None:
    """Who looks at a key sees which secret is retiring, when it was last used and how long it lasts."""
    stub.will_answer(reply(keys_pb2.GetKeyResponse(key=rotating_key())))
    rows = run("keys", "get", "key_x").stdout.splitlines()
    (current,) = [row for row in rows if row.startswith("● current")]
    (retiring,) = [row for row in rows if row.startswith("◐ retiring")]
    assert "3 min ago" in current
    assert "never" in retiring
    assert "in 23 h 30 min" in retiring


def test_a_revoked_key_says_why_and_when(stub: StubServer, run: CommandLine) -> None:
    """The reason given to the command is what the next person reads."""
    key = sample_key(
        state=States.REVOKED, state_reason="found in a log", revoked_at=in_seconds(-60), metadata={"a": "b"}
    )
    stub.will_answer(reply(keys_pb2.RevokeKeyResponse(key=key)))
    text = run("keys", "revoke", "key_x").stdout
    for part in ("✕ revoked", "found in a log", "1 min ago", "a=b"):
        assert part in text


def test_what_was_revoked_together_is_listed(stub: StubServer, run: CommandLine) -> None:
    """The ids go to standard output, one on a line, and the sentence does not get in their way."""
    stub.will_answer(reply(keys_pb2.RevokeKeysResponse(count=2, key_ids=["key_a", "key_b"])))
    result = run("keys", "revoke-matching", "--tag", "t", "--yes")
    assert (result.stdout, result.stderr) == ("key_a\nkey_b\n", "2 keys revoked.\n")


def test_a_page_says_how_to_get_the_next(stub: StubServer, run: CommandLine) -> None:
    """What is not shown is not hidden."""
    stub.will_answer(reply(keys_pb2.ListKeysResponse(keys=[sample_key()], next_page_token="token-1")))
    assert "--page-token token-1" in run("keys", "list").stdout


@pytest.mark.parametrize(
    ("words", "answer"),
    (
        (("keys", "list"), keys_pb2.ListKeysResponse()),
        (("owners", "list"), owners_pb2.ListOwnersResponse()),
        (("workspaces", "list"), workspaces_pb2.ListWorkspacesResponse()),
    ),
)
def test_an_empty_list_says_so_aside(
    stub: StubServer,
    run: CommandLine,
    words: tuple[str, ...],
    answer: keys_pb2.ListKeysResponse | owners_pb2.ListOwnersResponse | workspaces_pb2.ListWorkspacesResponse,
) -> None:
    """Nothing on standard output is nothing for a pipe, and a sentence for people."""
    stub.will_answer(reply(answer))
    result = run(*words)
    assert result.stdout == ""
    assert result.stderr.startswith("No ")


def test_owners_are_shown(stub: StubServer, run: CommandLine) -> None:
    """An owner's state is a word, and its notes are readable."""
    owner = owners_pb2.Owner(owner_id="cus_42", name="Example", suspended=True, metadata={"region": "eu"}, etag='"1"')
    stub.will_answer(
        reply(owners_pb2.GetOwnerResponse(owner=owner)),
        reply(owners_pb2.ListOwnersResponse(owners=[owner, owners_pb2.Owner(owner_id="cus_43")])),
        reply(owners_pb2.DeleteOwnerResponse(revoked_keys=3)),
    )
    shown = run("owners", "get", "cus_42").stdout
    assert "Example  ◐ suspended" in shown
    assert "region=eu" in shown
    rows = run("owners", "list").stdout.splitlines()
    assert [row.split()[0] for row in rows[1:]] == ["◐", "●"]
    assert "3 of its keys" in run("owners", "delete", "cus_42", "--yes").stdout


def test_workspaces_are_shown(stub: StubServer, run: CommandLine) -> None:
    """A workspace is shown by name, id and brand."""
    workspace = workspaces_pb2.Workspace(id="wsp_x", brand="acme", name="Acme", created_at=in_seconds(-120))
    stub.will_answer(
        reply(workspaces_pb2.GetWorkspaceResponse(workspace=workspace)),
        reply(workspaces_pb2.ListWorkspacesResponse(workspaces=[workspace])),
    )
    shown = run("workspaces", "get").stdout
    assert shown.splitlines()[0] == "Acme"
    assert "wsp_x" in shown
    assert run("workspaces", "list").stdout.splitlines()[1].split()[:3] == ["wsp_x", "acme", "Acme"]
    assert run("workspaces", "delete", "wsp_x", "--yes").stdout == "Deleted.\n"


def test_nothing_of_somebody_else_is_obeyed(stub: StubServer, run: CommandLine) -> None:
    """A name with a terminal's commands or with markup in it is shown as it is, harmlessly."""
    stub.will_answer(reply(keys_pb2.GetKeyResponse(key=sample_key(description="[red]x[/red] :smile: \x1b[2J"))))
    assert "[red]x[/red] :smile: ?[2J" in run("keys", "get", "key_x").stdout


def test_a_terminal_gets_colours(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours come on terminals, unless NO_COLOR is set."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    text = joined([cell("a", "red"), cell("b")], " ")
    paint([text], columns=80, terminal=True)
    coloured = capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    paint([text], columns=80, terminal=True)
    assert ("a b\n" in coloured, capsys.readouterr().out) == (False, "a b\n")


def test_a_folder_is_no_secret(run_alone: CommandLine, tmp_path: Path) -> None:
    """A mistake with `--file` is a usage error, not a traceback."""
    assert run_alone("keys", "check", "--file", str(tmp_path)).exit_code == 2
