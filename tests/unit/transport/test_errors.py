"""The table of errors, its page in the docs, and what a refusal tells."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from connectrpc.code import Code
from google.rpc import error_details_pb2
from grpc import StatusCode
from structlog.testing import capture_logs

import keystead
from keystead.kernel.errors import FieldViolation, InvalidRequestError, KeysteadError, StartError, UnavailableError
from keystead.keys.errors import KeyRevokedError, RefusedFor, UnauthenticatedError
from keystead.transport.errors import BEFORE_CONNECT, TABLE, OverloadedError, UnknownFieldError
from keystead.transport.http.refusing import connect_code
from keystead.transport.refusals import (
    DETAILS_MAXIMUM_BYTES,
    MESSAGE_MAXIMUM_BYTES,
    Refusal,
    outline,
    refusal_of,
    shorten,
)

PAGE = Path(keystead.__file__).parents[2] / "docs" / "reference" / "errors.md"
# As the Connect protocol's specification lists them, for a reader to compare.
CONNECT_HTTP = {
    Code.CANCELED: 499,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}


def error_classes() -> Iterator[type[KeysteadError]]:
    """Find every error class of the package, wherever it stands."""
    for module in pkgutil.walk_packages(keystead.__path__, "keystead."):
        if not module.name.startswith(("keystead.gen", "keystead.__main__", "keystead.adapters.sql.migrations")):
            importlib.import_module(module.name)
    waiting: list[type[KeysteadError]] = [KeysteadError]
    while waiting:
        found = waiting.pop()
        yield found
        waiting += [each for each in found.__subclasses__() if each.__module__.startswith("keystead.")]


def info_of(refusal: Refusal) -> error_details_pb2.ErrorInfo:
    """Return the one ErrorInfo of a refusal."""
    infos = [detail for detail in refusal.details if isinstance(detail, error_details_pb2.ErrorInfo)]
    assert len(infos) == 1
    return infos[0]


def test_every_error_of_the_package_is_in_the_table() -> None:
    """No error reaches a caller as INTERNAL because nobody said how it travels."""
    seen = [each for each in error_classes() if not issubclass(each, StartError)]
    missing = {f"{each.__module__}.{each.__name__}: {each.code}" for each in seen if each.code not in TABLE}
    assert missing == set()


def test_the_table_is_sorted_and_its_codes_are_legal() -> None:
    """A code is found by eye, and makes an ErrorInfo.reason that AIP-193 allows."""
    assert list(TABLE) == sorted(TABLE)
    for code in TABLE:
        assert re.fullmatch(r"[A-Z][A-Z0-9_]+[A-Z0-9]", code.upper())
        assert len(code) <= 63


@pytest.mark.parametrize("code", TABLE)
def test_http_statuses_are_connects(code: str) -> None:
    """What the table says of HTTP is what connectrpc sends, except for the answers given before it is asked."""
    statuses = TABLE[code]
    expected = CONNECT_HTTP[connect_code(statuses.grpc)]
    assert (statuses.http != expected) == (code in BEFORE_CONNECT)


def test_every_code_is_documented() -> None:
    """Whoever meets a code finds what it means and how it travels, in the page and in the table alike."""
    page = PAGE.read_text(encoding="utf-8")
    for code, statuses in TABLE.items():
        (row,) = re.findall(rf"^\| [^|]*`{code}`[^|]*\| `?(\w+)`? \| (\d+) \|", page, re.MULTILINE)
        assert row == (statuses.grpc.name, str(statuses.http))


def test_a_refusal_carries_one_reason_and_the_fields() -> None:
    """A program reads the reason in one place, and every broken field by name."""
    violations = [FieldViolation("name", "is too long"), FieldViolation("tags[1]", "is empty")]
    refusal = refusal_of(InvalidRequestError(violations), "/x")
    assert refusal.status.code == StatusCode.INVALID_ARGUMENT.value[0]
    assert info_of(refusal).reason == "INVALID_REQUEST"
    assert info_of(refusal).domain == "keystead"
    (bad,) = [detail for detail in refusal.details if isinstance(detail, error_details_pb2.BadRequest)]
    assert [violation.field for violation in bad.field_violations] == ["name", "tags[1]"]
    assert [packed.TypeName() for packed in refusal.status.details] == [
        "google.rpc.ErrorInfo",
        "google.rpc.BadRequest",
    ]


def test_a_refusal_says_when_to_come_back_and_how_to_authenticate() -> None:
    """A retry delay is told in both languages, rounded up for HTTP; 401 names the scheme."""
    refusal = refusal_of(OverloadedError(), "/x")
    (retry,) = [detail for detail in refusal.details if isinstance(detail, error_details_pb2.RetryInfo)]
    assert retry.retry_delay.ToMilliseconds() == 1_000
    assert refusal.http_headers == {"retry-after": "1"}
    assert refusal_of(UnavailableError("x", retry_after_ms=1), "/x").http_headers == {"retry-after": "1"}
    assert refusal_of(KeyRevokedError("key_1"), "/x").http_headers == {}
    assert refusal_of(UnauthenticatedError(RefusedFor.UNKNOWN), "/x").http_headers == {"www-authenticate": "Bearer"}


@pytest.mark.parametrize("letter", ("a", "é", "\ud800", "\n"))
def test_a_refusal_always_fits_into_metadata(letter: str) -> None:
    """However much a caller sends wrong, he gets the refusal and not his own client's size limit."""
    violations = [FieldViolation(letter * 5_000, letter * 5_000) for _ in range(1_000)]
    refusal = refusal_of(InvalidRequestError(violations), "/x")
    assert len(refusal.message.encode()) <= MESSAGE_MAXIMUM_BYTES
    details_bytes = refusal.status.ByteSize() * 4 // 3
    assert details_bytes + 3 * len(refusal.message.encode()) < 8_192
    many = DetailedError({f"k{index}": letter * 5_000 for index in range(100)})
    assert refusal_of(many, "/x").status.ByteSize() <= MESSAGE_MAXIMUM_BYTES + DETAILS_MAXIMUM_BYTES + 200


class DetailedError(KeysteadError):
    """An error with whatever metadata."""

    code = "not_found"

    def __init__(self, metadata: dict[str, str]) -> None:
        """Keep it."""
        super().__init__(public="x", metadata=metadata)


def test_internal_texts_go_to_the_log_alone() -> None:
    """The internal text of a refusal is for the operator."""
    with capture_logs() as logs:
        refusal = refusal_of(UnavailableError("The store is away.", internal="host db-3"), "/x")
    assert "db-3" not in str(refusal.status)
    assert [(entry["event"], entry["internal"], entry["method"]) for entry in logs] == [
        ("call refused", "host db-3", "/x")
    ]


def fail_deep_inside(secret: str) -> None:
    """Fail twice, quoting ``secret``."""
    try:
        int(secret)
    except ValueError as error:
        raise KeyError(secret) from error


def test_what_nobody_expected_is_told_by_an_id() -> None:
    """The caller gets an id and the log what and where, but neither gets a text that may quote a request (P1)."""
    secret = "acme_live_SECRET"
    with pytest.raises(KeyError) as caught:
        fail_deep_inside(secret)
    with capture_logs() as logs:
        refusal = refusal_of(caught.value, "/x")
    assert refusal.statuses.grpc is StatusCode.INTERNAL
    error_id = info_of(refusal).metadata["error_id"]
    assert error_id in refusal.message
    assert logs[0]["error_id"] == error_id
    trace = logs[0]["traceback"]
    assert trace.index("builtins.ValueError") < trace.index("builtins.KeyError")
    assert "in fail_deep_inside" in trace
    assert "SECRET" not in str(refusal.status)
    assert "SECRET" not in str(logs)


def test_a_code_that_is_in_no_table_is_unexpected() -> None:
    """A code that somebody forgot is logged and told as internal, never as a text for which nobody answers."""

    class ForgottenError(KeysteadError):
        code = "forgotten"

    with capture_logs() as logs:
        refusal = refusal_of(ForgottenError(public="private"), "/x")
    assert refusal.code == "internal"
    assert "private" not in refusal.message
    assert "ForgottenError" in logs[0]["traceback"]


def test_an_outline_ends_however_causes_turn() -> None:
    """A circle of causes, or a recursion, costs a bounded log entry."""
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert outline(first).count("ValueError") == 1

    def endless() -> None:
        endless()

    with pytest.raises(RecursionError) as caught:
        endless()
    assert outline(caught.value).count("in endless") <= 51


@pytest.mark.parametrize(
    ("text", "maximum_bytes", "shown"),
    (("short", 5, "short"), ("longer", 5, "lo…"), ("éééé", 6, "é…"), ("a\ud800", 10, "a?")),
)
def test_shortening_keeps_letters_whole(text: str, maximum_bytes: int, shown: str) -> None:
    """A cut text is still text, and never longer than it may be."""
    assert shorten(text, maximum_bytes) == shown
    assert len(shown.encode()) <= maximum_bytes


def test_an_unknown_field_keeps_its_paths() -> None:
    """The walker that adds to a path finds it again."""
    assert UnknownFieldError(["a", "b"]).paths == ("a", "b")
