"""The log is exported from a real server and checked offline, by the commands that an auditor uses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cli_program import Server, clean_environment, keystead, keystead_json

KEYS = 12
FORMATS = ("json_lines", "csv", "ocsf")


class Auditor:
    """A running service in which something happened, and one who looks at it."""

    def __init__(self, folder: Path) -> None:
        """Start in ``folder``, make and revoke keys, and keep the public key in a file."""
        self.folder = folder
        self.server = Server(folder, "up", "--json")
        told = self.server.told()
        self.environment = {"KEYSTEAD_URL": told["http"], "KEYSTEAD_MANAGEMENT_KEY": told["management_key"]}
        for number in range(KEYS):
            words = ("--owner", f"cus_{number}", "--create-owner", "--name", "Zoë's", "--environment", "live")
            made = self.json("keys", "create", *words)
        self.key_id = made["key"]["id"]
        self.json("keys", "revoke", self.key_id)
        self.public_key = self.json("audit", "public-key")["publicKey"]
        (folder / "audit.pub").write_text(self.public_key + "\n", encoding="utf-8")

    def json(self, *words: str) -> dict[str, Any]:
        """Run a command that must succeed."""
        return keystead_json(self.folder, *words, environment=self.environment)

    def export(self, name: str, *words: str) -> Path:
        """Export into a file."""
        path = self.folder / name
        self.json("audit", "export", "--output", str(path), *words)
        return path

    def verify(self, path: Path, *words: str, public_key: str = "@audit.pub") -> tuple[int, str, str]:
        """Verify a file, without a server to ask."""
        done = keystead(self.folder, "audit", "verify", str(path), "--public-key", public_key, *words)
        return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def auditor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Auditor]:
    """Lend one service and its auditor."""
    made = Auditor(tmp_path_factory.mktemp("audited"))
    yield made
    made.server.close()


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_verifies_offline(auditor: Auditor, form: str) -> None:
    """What a server exports is whole in every format, holds what just happened, and says how much it is."""
    path = auditor.export(f"whole.{form}", "--format", form)
    assert b"key.revoked" in path.read_bytes()
    code, out, err = auditor.verify(path, "--json")
    assert (code, err) == (0, "")
    said = json.loads(out)
    checkpoint = auditor.json("audit", "checkpoint")
    assert said["events"] == said["size"] == int(checkpoint["size"]) > 2 * KEYS
    assert said["firstAt"] <= said["lastAt"]
    code, out, _ = auditor.verify(path)
    assert (code, "Nothing was touched." in out, said["rootHash"] in out) == (0, True, True)


def test_another_key_vouches_for_nothing(auditor: Auditor, tmp_path: Path) -> None:
    """An export is refused under the public key of another installation, and under what is no key."""
    path = auditor.export("mine.jsonl")
    other = Server(tmp_path, "up", "--json")
    try:
        told = other.told()
        environment = {"KEYSTEAD_URL": told["http"], "KEYSTEAD_MANAGEMENT_KEY": told["management_key"]}
        foreign = keystead_json(tmp_path, "audit", "public-key", environment=environment)["publicKey"]
    finally:
        other.close()
    code, out, err = auditor.verify(path, public_key=foreign)
    assert (code, out) == (1, "")
    assert "nothing is proven" in err
    assert auditor.verify(path, public_key="no key")[0] == 2
    assert auditor.verify(path, public_key="@missing.pub")[0] == 2


def test_what_was_touched_is_named(auditor: Auditor) -> None:
    """Whoever changes an action, takes a line away or cuts the end is found, and told with the record's index."""
    path = auditor.export("touched.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:5], lines[5].replace(b'"action":"', b'"action":"x'), *lines[6:8], *lines[9:]]))
    code, out, err = auditor.verify(path)
    assert (code, out) == (1, "")
    assert "record 7 is missing" in err
    assert "line 6: record 4 was changed" in err
    path.write_bytes(b"".join(lines[:-1]))
    code, _, err = auditor.verify(path, "--json")
    problem = json.loads(err)["error"]
    assert (code, problem["code"]) == (1, "EXPORT_TOUCHED")
    assert "the end was cut" in problem["hints"][0]


def test_a_later_part_verifies_by_itself(auditor: Auditor) -> None:
    """An export may begin later, so that an auditor fetches only what he does not have."""
    path = auditor.export("later.jsonl", "--from-index", "9")
    code, out, _ = auditor.verify(path, "--json")
    said = json.loads(out)
    assert (code, said["firstIndex"], said["events"]) == (0, 9, said["size"] - 9)
    words = ("audit", "export", "--output", str(path), "--from-index", "100000")
    done = keystead(auditor.folder, *words, environment=auditor.environment)
    assert (done.returncode, "from_index" in done.stderr) == (1, True)


def test_only_who_sees_both_environments_exports(auditor: Auditor) -> None:
    """A key for one environment is refused, and what the file held before stays as it is."""
    words = ("--kind", "management", "--environment", "live", "--scope", "read:audit", "--name", "auditor")
    made = auditor.json("keys", "create", *words)
    path = auditor.folder / "kept.jsonl"
    path.write_text("before", encoding="utf-8")
    environment = {**auditor.environment, "KEYSTEAD_MANAGEMENT_KEY": made["secret"]}
    done = keystead(auditor.folder, "audit", "export", "--output", str(path), environment=environment)
    assert (done.returncode, path.read_text(encoding="utf-8")) == (4, "before")
    assert "both environments" in done.stderr


def test_receipts(auditor: Auditor) -> None:
    """An event has a receipt of its own, a checkpoint can be made, and an older size is proven to be the beginning."""
    exported = auditor.export("receipts.jsonl").read_text(encoding="utf-8").splitlines()
    event_id = json.loads(exported[3])["record"]["id"]
    done = keystead(auditor.folder, "audit", "proof", event_id, environment=auditor.environment)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "c2sp.org/tlog-proof@v1")
    assert "index 2" in done.stdout.splitlines()
    made = keystead(auditor.folder, "audit", "checkpoint", "--make", environment=auditor.environment)
    assert made.stdout.startswith("keystead/wsp_")
    proof = auditor.json("audit", "proof", "--from-size", "5")
    assert proof["hashes"]
    done = keystead(auditor.folder, "audit", "proof", environment=auditor.environment)
    assert done.returncode == 2


def test_verifying_needs_nothing_but_the_file_and_the_key(auditor: Auditor, tmp_path: Path) -> None:
    """No server, no profile and no setting is asked for, so it is done where nobody who wrote the log has a hand in."""
    path = auditor.export("moved.jsonl")
    assert not {name for name in clean_environment(tmp_path) if name.startswith("KEYSTEAD_")}
    done = keystead(tmp_path, "audit", "verify", str(path), "--public-key", auditor.public_key)
    assert done.returncode == 0, done.stderr
