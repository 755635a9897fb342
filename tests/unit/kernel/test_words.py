"""The small words everyone shares: secrets, errors, the clock and what names an owner."""

from __future__ import annotations

import copy
import pickle
import time

import pytest

from keystead.kernel.change import owner_subject
from keystead.kernel.clock import SystemClock
from keystead.kernel.errors import InvalidRequestError, KeysteadError, NotAvailableYetError, UnavailableError, invalid
from keystead.kernel.secret import Secret

PLAINTEXT = "acme_live_do-not-show-me"


def test_a_secret_never_shows_itself() -> None:
    """Neither ``repr`` nor ``str`` nor formatting, alone or inside something else, gives the plaintext away (P1)."""
    secret = Secret(PLAINTEXT)
    for shown in (repr(secret), str(secret), f"{secret}", f"{secret!r:>30}", repr([secret]), repr({"key": secret})):
        assert "do-not-show-me" not in shown
    assert secret.reveal() == PLAINTEXT


def test_a_secret_cannot_be_carried_away() -> None:
    """It does not pickle and does not copy, so no queue, cache or crash report holds it by accident (P1)."""
    for carry in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError) as caught:
            carry(Secret(PLAINTEXT))
        assert "do-not-show-me" not in str(caught.value)


def test_errors_keep_what_is_public_apart_from_what_is_internal() -> None:
    """What a caller is shown is the public text alone; the log's text never leaks into it."""
    error = KeysteadError(public="Try again.", internal="host db-1 is down", metadata={"a": "b"}, retry_after_ms=5)
    assert str(error) == error.public == "Try again."
    assert error.internal == "host db-1 is down"
    assert (error.code, error.metadata, error.retry_after_ms, error.violations) == ("internal", {"a": "b"}, 5, ())


def test_errors_name_the_fields_they_are_about() -> None:
    """A refused field is named where a program finds it, and in the text where a person does."""
    error = invalid("key.name", "is too long")
    assert isinstance(error, InvalidRequestError)
    assert error.public == "key.name: is too long"
    later = NotAvailableYetError(["plan_id", "limits"])
    assert [item.field for item in later.violations] == ["plan_id", "limits"]
    assert "plan_id, limits" in later.public


def test_what_is_out_of_reach_says_when_to_come_back() -> None:
    """An unavailable answer carries a delay, so clients need not guess one."""
    assert UnavailableError("The database does not answer.").retry_after_ms == 1_000
    assert UnavailableError("Busy.", internal="why", retry_after_ms=7).retry_after_ms == 7


def test_the_system_clock_tells_the_machines_time() -> None:
    """Wall time is the epoch's in milliseconds; the monotonic clock does not go back."""
    clock = SystemClock()
    before_ms = time.time_ns() // 1_000_000
    assert before_ms <= clock.now_ms() <= time.time_ns() // 1_000_000
    assert clock.monotonic_ms() <= clock.monotonic_ms()
    assert clock.monotonic_ns() <= clock.monotonic_ns()


def test_owners_of_two_workspaces_are_two_subjects() -> None:
    """The same owner id in two workspaces names two things that change apart (P8)."""
    assert owner_subject("wsp_1", "a") != owner_subject("wsp_2", "a")


def test_an_error_of_a_part_names_the_part() -> None:
    """In a batch the caller is told which item it was, in the text and in every field; the kind stays."""
    error = invalid("key", "is too long").inside("requests[3]")
    assert isinstance(error, InvalidRequestError)
    assert error.public == "requests[3]: key: is too long"
    assert [item.field for item in error.violations] == ["requests[3].key"]
