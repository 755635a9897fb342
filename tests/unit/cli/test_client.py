"""How the client behaves when things go wrong: what it repeats, what it says, and how it exits."""

from __future__ import annotations

import time

import pytest

from keystead.gen.v1 import keys_pb2
from tests.services import free_port
from tests.unit.cli.conftest import CommandLine, problem_in, sample_key
from tests.unit.cli.stub_server import Answer, StubServer, refusal, reply

KEY = "key_01hzx"
LOST = Answer(dropped=True)
BUSY = refusal("unavailable", "Busy.", status=503, reason="OVERLOADED", headers={"retry-after": "0"})
DONE = reply(keys_pb2.RevokeKeyResponse(key=sample_key()))


@pytest.mark.parametrize(
    "failure", (LOST, BUSY, Answer(b"<html>", 502, {"retry-after": "0"})), ids=("lost", "busy", "proxy")
)
def test_a_mutation_is_repeated_as_the_same_one(stub: StubServer, run: CommandLine, failure: Answer) -> None:
    """When the connection breaks or the server is busy, the call is sent once more under the same idempotency key."""
    stub.will_answer(failure, DONE)
    assert run("keys", "revoke", KEY, "--json").exit_code == 0
    assert len(stub.asked) == 2
    assert stub.asked[0].body == stub.asked[1].body


@pytest.mark.parametrize("failure", (LOST, BUSY))
def test_a_call_is_repeated_once_at_most(stub: StubServer, run: CommandLine, failure: Answer) -> None:
    """A server in trouble gets two calls and no third; the error says how to learn what became of the mutation."""
    stub.will_answer(failure, failure, DONE)
    result = run("keys", "revoke", KEY, "--json")
    assert result.exit_code == 3
    assert len(stub.asked) == 2
    (hint,) = problem_in(result)["hints"]
    assert f"--idempotency-key {stub.asked[0].body['idempotencyKey']}" in hint


def test_a_long_wait_is_left_to_the_caller(stub: StubServer, run: CommandLine) -> None:
    """A command never hangs for as long as a server asks it to."""
    stub.will_answer(refusal("unavailable", "Busy.", status=503, reason="STALE", headers={"retry-after": "3600"}))
    began_s = time.monotonic()
    assert run("keys", "get", KEY).exit_code == 3
    assert time.monotonic() - began_s < 5
    assert len(stub.asked) == 1


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    (
        (404, "not_found", 1),
        (400, "failed_precondition", 1),
        (500, "internal", 1),
        (401, "unauthenticated", 4),
        (403, "permission_denied", 4),
        (504, "deadline_exceeded", 3),
    ),
)
def test_a_refusal_is_final_and_has_its_exit_code(
    stub: StubServer, run: CommandLine, status: int, code: str, exit_code: int
) -> None:
    """Scripts branch on the exit code; what the server refused is not asked again."""
    stub.will_answer(refusal(code, "No.", status=status, reason="SOME_REASON"), DONE)
    result = run("keys", "revoke", KEY, "--json")
    assert (result.exit_code, problem_in(result)["exit_code"]) == (exit_code, exit_code)
    assert result.stdout == ""
    assert len(stub.asked) == 1


def test_a_refusal_tells_everything_that_helps(stub: StubServer, run: CommandLine) -> None:
    """People and programs both get the text, the reason, every field and the id to look for in the log."""
    answer = refusal(
        "invalid_argument",
        "Something is wrong.",
        status=400,
        reason="INVALID_REQUEST",
        fields={"name": "must be 1 to 100 characters", "scopes[0]": "must be action:resource"},
        error_id="err_01hzx",
    )
    stub.will_answer(answer, answer)
    said = run("keys", "get", KEY)
    for part in ("Something is wrong.", "INVALID_REQUEST", "name: must be", "scopes[0]: must be", "err_01hzx"):
        assert part in said.stderr
    problem = problem_in(run("keys", "get", KEY, "--json"))
    assert (problem["code"], problem["error_id"]) == ("INVALID_REQUEST", "err_01hzx")
    assert [item["field"] for item in problem["violations"]] == ["name", "scopes[0]"]


def test_a_violation_is_not_said_twice(stub: StubServer, run: CommandLine) -> None:
    """A message that names every field already is enough."""
    text = "name: must be short"
    stub.will_answer(refusal("invalid_argument", text, status=400, reason="R", fields={"name": "must be short"}))
    assert run("keys", "get", KEY).stderr.count("must be short") == 1


def test_details_that_nobody_understands_are_left_out(stub: StubServer, run: CommandLine) -> None:
    """A refusal is shown also when its details are of another version, or broken."""
    body = b"""{"code": "internal", "message": "Odd.", "details": [7, {"type": "x", "value": "!"},
      {"type": "google.rpc.ErrorInfo", "value": "/////w"}]}"""
    stub.will_answer(Answer(body, 500))
    assert problem_in(run("keys", "get", KEY, "--json"))["code"] == "INTERNAL"


@pytest.mark.parametrize(
    "answer",
    (
        Answer(b"<html>", 200),
        Answer(b"[]", 200),
        Answer(b"", 404),
        Answer(b"", 302, {"location": "http://127.0.0.1:1/"}),
    ),
)
def test_what_is_not_keystead_is_called_so(stub: StubServer, run: CommandLine, answer: Answer) -> None:
    """A wrong URL shows as one; a redirect is not followed, because the management key must not go where it leads."""
    stub.will_answer(answer)
    problem = problem_in(run("keys", "get", KEY, "--json"))
    assert (problem["code"], problem["exit_code"]) == ("NOT_KEYSTEAD", 3)


def test_nobody_there_is_unreachable(run: CommandLine) -> None:
    """A server that is not there exits 3 and says where it was looked for; nothing can have been done."""
    url = f"http://127.0.0.1:{free_port()}"
    result = run("keys", "revoke", KEY, "--json", KEYSTEAD_URL=url)
    problem = problem_in(result)
    assert (result.exit_code, problem["code"], problem["hints"]) == (3, "UNREACHABLE", [])
    assert url in problem["message"]


def test_a_call_says_who_calls_and_how_long_it_may_take(stub: StubServer, run: CommandLine) -> None:
    """The server learns the deadline, so it does not work for somebody who has gone."""
    run("keys", "get", KEY, "--timeout", "1500ms", "--json")
    headers = stub.asked[0].headers
    assert headers["connect-timeout-ms"] == "1500"
    assert headers["connect-protocol-version"] == "1"
    assert headers["user-agent"].startswith("keystead-cli/")


def test_a_proxy_of_the_environment_does_not_see_local_calls(stub: StubServer, run: CommandLine) -> None:
    """What stays on this machine goes through nobody's hands."""
    nobody = f"http://127.0.0.1:{free_port()}"
    assert run("keys", "get", KEY, "--json", HTTP_PROXY=nobody, http_proxy=nobody, NO_PROXY="").exit_code == 0
    assert len(stub.asked) == 1


def test_a_server_cannot_write_on_the_terminal(stub: StubServer, run: CommandLine) -> None:
    """Control characters in a server's words, here ones that clear the screen, become question marks."""
    stub.will_answer(refusal("not_found", "There is \x1b[2J nothing.", status=404, reason="NOT_FOUND"))
    assert "There is ?[2J nothing." in run("keys", "get", KEY).stderr
