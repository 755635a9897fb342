"""How reports of outcomes are read."""

from __future__ import annotations

import pytest
from google.rpc import code_pb2

from keystead.gen.v1 import verification_pb2
from keystead.kernel.errors import InvalidRequestError
from keystead.kernel.ids import new_id
from keystead.transport.services.outcomes import OUTCOMES_MAX, outcomes_of
from keystead.usage.model import Outcome

VERIFICATION_ID = new_id("ver", now_ms=1_700_000_000_000)
# As google/rpc/code.proto says beside each code.
HTTP_STATUSES = {
    "OK": 200,
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "UNAUTHENTICATED": 401,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
}


@pytest.mark.parametrize("name", code_pb2.Code.keys())
def test_each_grpc_status_counts_as_its_http_status(name: str) -> None:
    """A gRPC status is counted as the HTTP status that its definition names, whoever calls it an error."""
    item = verification_pb2.Outcome(verification_id=VERIFICATION_ID, grpc_status=code_pb2.Code.Value(name))
    assert outcomes_of([item]) == [Outcome(VERIFICATION_ID, HTTP_STATUSES[name], None)]


def test_everything_wrong_with_an_outcome_is_named_at_once() -> None:
    """The first bad outcome of a report is told with all of its fields, by its place."""
    good = verification_pb2.Outcome(verification_id=VERIFICATION_ID, http_status=200)
    bad = verification_pb2.Outcome(verification_id="x", http_status=7)
    bad.latency.nanos = -1
    with pytest.raises(InvalidRequestError) as refused:
        outcomes_of([good, good, bad, verification_pb2.Outcome()])
    fields = {it.field for it in refused.value.violations}
    assert fields == {"outcomes[2].verification_id", "outcomes[2].http_status", "outcomes[2].latency"}


def test_a_report_is_bounded() -> None:
    """As many as may be are read; one more is refused whole."""
    item = verification_pb2.Outcome(verification_id=VERIFICATION_ID, http_status=200)
    assert len(outcomes_of([item] * OUTCOMES_MAX)) == OUTCOMES_MAX
    with pytest.raises(InvalidRequestError):
        outcomes_of([item] * (OUTCOMES_MAX + 1))
