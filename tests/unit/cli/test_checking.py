"""`keystead keys check`, and how secrets come in: offline, and never shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from keystead.keys.secret_format import compose
from tests.unit.cli.conftest import CommandLine


def well_formed() -> str:
    """Make a secret that nobody minted, with a right checksum."""
    return compose(brand="acme", environment="live", tag=lambda _: b"12345678")


def mistyped(secret: str) -> str:
    """Change one character in the middle."""
    return secret[:30] + ("x" if secret[30] != "x" else "y") + secret[31:]


@pytest.mark.parametrize("words", ((), ("-",), ("--file", "-")))
def test_a_good_secret_is_told_by_its_public_parts(run_alone: CommandLine, words: tuple[str, ...]) -> None:
    """Brand, environment and prefix are shown, which stand in plaintext everywhere; the secret is not."""
    secret = well_formed()
    result = run_alone("keys", "check", *words, typed=f"  {secret}\r\n")
    assert result.exit_code == 0
    for part in ("acme", "live", secret[:22]):
        assert part in result.stdout
    assert secret[:23] not in result.output


def test_programs_get_one_object(run_alone: CommandLine) -> None:
    """`--json` says the same as the text."""
    secret = well_formed()
    result = run_alone("keys", "check", "--json", typed=secret)
    assert json.loads(result.stdout) == {
        "well_formed": True,
        "brand": "acme",
        "environment": "live",
        "prefix": secret[:22],
    }
    result = run_alone("keys", "check", "--json", typed="x")
    assert (result.exit_code, json.loads(result.stdout)["well_formed"]) == (1, False)


@pytest.mark.parametrize("case", ("mistyped", "cut off", "doubled", "of somebody else", "binary"))
def test_a_bad_secret_is_refused_with_the_reason(run_alone: CommandLine, case: str) -> None:
    """Exit 1 and a reason that helps; nothing of what was given is repeated."""
    secret = well_formed()
    given = {
        "mistyped": mistyped(secret).encode(),
        "cut off": secret[:-3].encode(),
        "doubled": (secret + secret).encode(),
        "of somebody else": b"sk_test_" + secret[10:].encode() + b"!",
        "binary": b"\xff\x00\x01" * 20,
    }[case]
    result = run_alone("keys", "check", "-", typed=given)
    assert result.exit_code == 1
    assert result.stdout.startswith("Not well formed: ")
    assert secret[12:40] not in result.output


def test_a_file_is_read(run_alone: CommandLine, tmp_path: Path) -> None:
    """`--file` takes what a file holds, without its line end."""
    (tmp_path / "key").write_text(well_formed() + "\n")
    assert run_alone("keys", "check", "--file", str(tmp_path / "key")).exit_code == 0
    missing = run_alone("keys", "check", "--file", str(tmp_path / "nothing"))
    assert (missing.exit_code, "cannot be read" in missing.stderr) == (2, True)


@pytest.mark.parametrize("command", ("check", "identify"))
@pytest.mark.parametrize("as_json", (False, True))
def test_a_secret_as_an_argument_is_refused_unseen(run: CommandLine, command: str, *, as_json: bool) -> None:
    """A secret on the command line is not used, and not written into one more place by the error."""
    secret = well_formed()
    result = run("keys", command, secret, *(["--json"] if as_json else []))
    assert result.exit_code == 2
    assert "standard input" in result.stderr
    assert secret not in result.output


def test_no_secret_is_a_mistake(run_alone: CommandLine) -> None:
    """An empty input is told from a malformed secret."""
    assert run_alone("keys", "check", "-", typed="\n").exit_code == 2


def test_endless_input_is_not_read_to_its_end(run_alone: CommandLine) -> None:
    """What is longer than any secret is refused after a bounded read."""
    result = run_alone("keys", "check", "-", typed="a" * 10_000_000)
    assert result.exit_code == 1
    assert "4096 characters" in result.stdout
