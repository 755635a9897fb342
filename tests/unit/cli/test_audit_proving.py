"""What an auditor sees of exports, checkpoints and proofs, and what is refused though a server sent it."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from keystead.events.checkpoints import verifier_key
from keystead.gen.v1 import audit_pb2
from tests.unit.cli.conftest import CommandLine, problem_in
from tests.unit.cli.stub_server import Answer, StubServer, reply, stream
from tests.unit.events.exports import KEY, WORKSPACE, entries_of, events_of, export_of, note_of

EVENTS = events_of(9)
EVENT_ID = "evt_01hzxsample000000000000000"
PUBLIC_KEY = verifier_key(WORKSPACE, KEY.public_key).text()


def proof_of(index: int, *, at: int) -> Answer:
    """Answer with the proof of one event as that of a place."""
    entry = entries_of(EVENTS)[index]
    return reply(
        audit_pb2.GetAuditProofResponse(
            index=at, hashes=entry.proof, leaf_hash=bytes(32), checkpoint=note_of(EVENTS), record=entry.record
        )
    )


def test_an_export_is_written_as_it_came(stub: StubServer, run: CommandLine, tmp_path: Path) -> None:
    """The file holds the very bytes of the stream, appears when it is whole, and verifies."""
    path = tmp_path / "audit.csv"
    lines = export_of(EVENTS).lines
    messages = [audit_pb2.ExportEventsResponse(data=b"".join(part)) for part in (lines[:4], lines[4:])]
    stub.will_answer(stream(messages, {}), stream(messages[:1], None))
    result = run("audit", "export", "--output", str(path), "--format", "csv", "--from-index", "3")
    assert (result.exit_code, path.read_bytes()) == (0, b"".join(lines))
    asked = stub.asked[0].message
    assert asked == audit_pb2.ExportEventsRequest(format=audit_pb2.ExportEventsRequest.CSV, from_index=3)
    broken = run("audit", "export", "--output", str(path))
    assert (broken.exit_code, path.read_bytes()) == (3, b"".join(lines))
    verified = run("audit", "verify", str(path), "--public-key", PUBLIC_KEY)
    assert (verified.exit_code, verified.stdout.splitlines()[0]) == (0, "Nothing was touched.")


def test_a_receipt_is_checked_before_it_is_printed(stub: StubServer, run: CommandLine) -> None:
    """A proof of another place, or with a checkpoint that is none, is refused; a good one is printed whole."""
    stub.will_answer(proof_of(4, at=4), proof_of(4, at=5), reply(audit_pb2.GetAuditProofResponse(checkpoint="x")))
    printed = run("audit", "proof", EVENT_ID).stdout
    head, _, note = printed.partition("\n\n")
    assert note == note_of(EVENTS)
    lines = head.splitlines()
    assert base64.b64decode(lines[1].removeprefix("extra ")).decode() == EVENTS[4].record
    assert lines[2] == "index 4"
    for _ in range(2):
        refused = run("audit", "proof", EVENT_ID, "--json")
        assert (refused.exit_code, problem_in(refused)["code"]) == (1, "NOT_PROVEN")


def test_either_an_event_or_a_size_is_proven(stub: StubServer, run: CommandLine) -> None:
    """Nothing is asked when both are given, or neither; 0 is a size."""
    assert run("audit", "proof").exit_code == 2
    assert run("audit", "proof", EVENT_ID, "--from-size", "1").exit_code == 2
    stub.will_answer(reply(audit_pb2.GetAuditProofResponse(checkpoint=note_of(EVENTS))))
    assert note_of(EVENTS) in run("audit", "proof", "--from-size", "0").stdout
    assert stub.asked[0].message == audit_pb2.GetAuditProofRequest(from_size=0)


def test_what_an_auditor_keeps_is_printed_as_it_is(stub: StubServer, run: CommandLine) -> None:
    """A checkpoint and a public key go into a file without a word around them."""
    stub.will_answer(
        reply(audit_pb2.GetCheckpointResponse(checkpoint=note_of(EVENTS), size=9)),
        reply(audit_pb2.GetAuditPublicKeyResponse(public_key=PUBLIC_KEY)),
    )
    assert run("audit", "checkpoint", "--make").stdout == note_of(EVENTS)
    assert stub.asked[0].message == audit_pb2.GetCheckpointRequest(make=True)
    assert run("audit", "public-key").stdout == PUBLIC_KEY + "\n"


def test_a_hundred_findings_are_told(run_alone: CommandLine, tmp_path: Path) -> None:
    """However much is wrong, a hundred things are named, and how many more there are."""
    export = export_of(events_of(150))
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"".join([export.lines[0], *[b"{}\n"] * 150, export.lines[-1]]))
    result = run_alone("audit", "verify", str(path), "--public-key", PUBLIC_KEY)
    lines = result.stderr.splitlines()
    assert (result.exit_code, len(lines), lines[-1]) == (1, 102, "  … and 50 more")
    assert lines[1].startswith("  line 2: record 0 was changed")


def test_an_empty_log_verifies(run_alone: CommandLine, tmp_path: Path) -> None:
    """An export without events is good, and says that there are none."""
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"".join(export_of([]).lines))
    said = json.loads(run_alone("audit", "verify", str(path), "--public-key", PUBLIC_KEY, "--json").stdout)
    assert (said["events"], said["firstAt"]) == (0, "")
    assert run_alone("audit", "verify", str(tmp_path / "none"), "--public-key", PUBLIC_KEY).exit_code == 2
    assert "Events" in run_alone("audit", "verify", str(path), "--public-key", PUBLIC_KEY).stdout
