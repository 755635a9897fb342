"""Strict reading, in binary and in JSON, against whatever comes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from keystead.gen.v1 import keys_pb2, limits_pb2, verification_pb2
from keystead.kernel.errors import InvalidRequestError, KeysteadError
from keystead.transport.binary import read_binary
from keystead.transport.errors import MalformedMessageError, UnknownFieldError
from keystead.transport.http.json_reading import DEPTH_MAXIMUM, read_json
from keystead.transport.unknown_fields import refuse_unknown_fields

MARK = "SECRETSECRET"
FIELDS = [field.json_name for field in keys_pb2.CreateKeyRequest.DESCRIPTOR.fields]
NAMES = st.sampled_from([*FIELDS, "owner_id", "name", "limits", "seconds", "tokenBucket", "rate"]) | st.text(max_size=5)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(MARK)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=12
)


def outcome(
    read: Callable[[type[Message], bytes], Message], data: bytes, kind: type[Message] = keys_pb2.CreateKeyRequest
) -> Message | KeysteadError:
    """Read a request, or return the refusal."""
    try:
        return read(kind, data)
    except KeysteadError as error:
        return error


@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_any_json_is_read_or_refused_in_our_words(body: dict[str, Any]) -> None:
    """No JSON makes the reader fail in a way of its own, and no refusal quotes a value (P1)."""
    read = outcome(read_json, json.dumps(body).encode())
    if isinstance(read, KeysteadError):
        assert MARK not in read.public
        assert all(MARK not in violation.description for violation in read.violations)
    else:
        assert json_format.ParseDict(body, keys_pb2.CreateKeyRequest()) == read


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused_in_our_words(data: bytes) -> None:
    """No bytes make either reader fail in a way of its own."""
    for read in (read_json, read_binary):
        assert isinstance(outcome(read, data), keys_pb2.CreateKeyRequest | KeysteadError)


@pytest.mark.parametrize(
    ("body", "path"),
    (
        ({"nothing": 1}, "nothing"),
        ({"limits": [{}, {"nothing": 1}]}, "limits[1].nothing"),
        ({"limits": [{"tokenBucket": {"nothing": 1}}]}, "limits[0].token_bucket.nothing"),
        ({"a\nb": 1}, "a?b"),
        ({"x" * 500: 1}, "x" * 97 + "…"),
    ),
)
def test_an_unknown_field_is_named_by_its_path(body: dict[str, Any], path: str) -> None:
    """A misspelt name is found at once, in a text that is safe to print."""
    with pytest.raises(UnknownFieldError) as caught:
        read_json(keys_pb2.CreateKeyRequest, json.dumps(body).encode())
    assert caught.value.paths == (path,)


@pytest.mark.parametrize(
    ("body", "field"),
    (
        ({"owner_id": "a", "ownerId": "a"}, "owner_id"),
        ({"limits": [{"token_bucket": {}, "tokenBucket": {}}]}, "limits[0].token_bucket"),
        ({"limits": [{"tokenBucket": {}, "slidingWindow": {}}]}, "limits[0].sliding_window"),
        ({"environment": [1]}, "environment"),
        ({"metadata": []}, "metadata"),
        ({"limits": {}}, "limits"),
        ({"limits": [None]}, "limits[0]"),
        ({"limits": [1]}, "limits[0]"),
        ({"expiresAt": {}}, "expires_at"),
        ({"name": "\ud800"}, "name"),
        ({"createOwner": "true"}, "create_owner"),
    ),
)
def test_a_wrong_field_is_named_by_its_path(body: dict[str, Any], field: str) -> None:
    """A value of the wrong form is named in the proto's spelling, and twice is not once."""
    with pytest.raises(InvalidRequestError) as caught:
        read_json(keys_pb2.CreateKeyRequest, json.dumps(body).encode())
    assert [violation.field for violation in caught.value.violations] == [field]


def test_problems_are_counted_to_a_bound() -> None:
    """A body that is wrong everywhere is answered in bounded time and space."""
    body = {"scopes": [1] * 10_000}
    with pytest.raises(InvalidRequestError) as caught:
        read_json(keys_pb2.CreateKeyRequest, json.dumps(body).encode())
    assert len(caught.value.violations) == 20


def test_a_null_is_an_absent_field() -> None:
    """Protobuf's JSON mapping reads null as the default, for every kind of field."""
    body = dict.fromkeys(FIELDS)
    assert read_json(keys_pb2.CreateKeyRequest, json.dumps(body).encode()) == keys_pb2.CreateKeyRequest()


def test_a_struct_may_hold_what_it_likes() -> None:
    """Free JSON inside a message is not taken for misspelt fields."""
    body = {"resource": {"properties": {"a_b": 1, "aB": {"x": [None, True]}}}}
    message = read_json(verification_pb2.VerifyKeyRequest, json.dumps(body).encode())
    assert json_format.MessageToDict(message)["resource"] == body["resource"]


@pytest.mark.parametrize(("opening", "closing"), ((b'{"a":', b"}"), (b"[", b"]")), ids=("objects", "arrays"))
def test_json_may_be_nested_to_a_bound_and_no_further(opening: bytes, closing: bytes) -> None:
    """What is accepted can be read back from the wire; one level more is refused as what it is."""
    for inner, fits in ((DEPTH_MAXIMUM - 3, True), (DEPTH_MAXIMUM - 2, False)):
        free = b'{"x":' + opening * inner + b"1" + closing * inner + b"}"
        read = outcome(read_json, b'{"resource":{"properties":' + free + b"}}", verification_pb2.VerifyKeyRequest)
        if fits:
            assert isinstance(read, Message)
            assert read_binary(verification_pb2.VerifyKeyRequest, read.SerializeToString()) == read
        else:
            assert isinstance(read, MalformedMessageError)
            assert "nested" in read.public


def test_known_fields_pass_wherever_they_are() -> None:
    """A message of the contract is never refused, whatever its parts."""
    message = keys_pb2.CreateKeyRequest(metadata={"a": "b"}, limits=[limits_pb2.Limit(name="x")])
    refuse_unknown_fields(message)
    request = verification_pb2.VerifyKeyRequest(resource=verification_pb2.Resource(type="x"))
    refuse_unknown_fields(request)
    refuse_unknown_fields(verification_pb2.BatchVerifyRequest(requests=[request]))


def test_unknown_fields_are_found_wherever_they_are() -> None:
    """Nothing the contract does not know is obeyed in part, at any depth; each is named by path and number."""
    stray = b"\x98\x06\x01\xa0\x06\x01"  # fields 99 and 100
    request = verification_pb2.VerifyKeyRequest(key="x")
    request.MergeFromString(stray)
    with pytest.raises(UnknownFieldError) as caught:
        refuse_unknown_fields(
            verification_pb2.BatchVerifyRequest(requests=[verification_pb2.VerifyKeyRequest(key="y"), request])
        )
    assert caught.value.paths == ("requests[1].99", "requests[1].100")
    inside = verification_pb2.VerifyKeyRequest()
    inside.resource.properties.fields["a"].MergeFromString(stray)
    with pytest.raises(UnknownFieldError) as caught:
        read_binary(verification_pb2.VerifyKeyRequest, inside.SerializeToString())
    assert caught.value.paths == ("resource.properties.fields[…].99", "resource.properties.fields[…].100")
