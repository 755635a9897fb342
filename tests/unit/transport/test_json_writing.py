"""64-bit numbers in JSON."""

from __future__ import annotations

from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message

from keystead.gen.v1 import usage_pb2
from keystead.transport.http.json_writing import EXACT_MAX, write_numbers


def written(message: Message) -> dict[str, Any]:
    """Write a message as the codec does."""
    body = MessageToDict(message, always_print_fields_with_no_presence=True)
    write_numbers(message.DESCRIPTOR, body)
    return body


def test_numbers_are_numbers_wherever_they_stand() -> None:
    """A browser adds sums up without turning texts into numbers first: in fields, maps and repeated messages."""
    usage = usage_pb2.GetKeyUsageResponse(calls=5, by_code={"VALID": 4, "EXPIRED": 1})
    body = written(usage)
    assert (body["calls"], body["byCode"], body["errors"]) == (5, {"VALID": 4, "EXPIRED": 1}, 0)
    series = usage_pb2.QueryUsageResponse(
        series=[usage_pb2.UsageSeries(group="g", points=[usage_pb2.UsagePoint(calls=7, cost=9)])]
    )
    [one] = written(series)["series"]
    assert [(point["calls"], point["cost"]) for point in one["points"]] == [(7, 9)]


def test_what_a_browser_cannot_hold_stays_a_text() -> None:
    """No reader gets another number than was counted."""
    usage = usage_pb2.GetKeyUsageResponse(calls=EXACT_MAX, cost=EXACT_MAX + 1)
    body = written(usage)
    assert (body["calls"], body["cost"]) == (EXACT_MAX, str(EXACT_MAX + 1))
    assert ParseDict(body, usage_pb2.GetKeyUsageResponse()) == usage
