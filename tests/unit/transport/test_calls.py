"""What a call tells its dispatcher, and how methods are read from descriptors."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from keystead.gen.v1 import keys_pb2, workspaces_pb2
from keystead.kernel.errors import InvalidRequestError
from keystead.transport.calls import Access, Call, Metadata, Method, host_of, methods_of


@pytest.fixture
def method() -> Method:
    """Bind one method."""
    return methods_of(keys_pb2.DESCRIPTOR.services_by_name["KeyService"])[0]


def call_with(method: Method, *metadata: tuple[str, str | bytes], remaining_s: float | None = None) -> Call:
    """Make a call from loopback."""
    pairs: Metadata = metadata
    return Call(method, pairs, "ipv4:127.0.0.1:5", remaining_s)


def test_methods_are_bound_as_the_contract_writes_them(method: Method) -> None:
    """Path, messages and rights come from the proto alone."""
    assert method.path == "/keystead.v1.KeyService/CreateKey"
    assert method.service == "keystead.v1.KeyService"
    assert method.name == "CreateKey"
    assert method.request is keys_pb2.CreateKeyRequest
    assert method.reply is keys_pb2.CreateKeyResponse
    assert method.access == Access(
        scope="write:keys", operator=False, operator_only=False, returns_secret=True, mutates=True
    )
    workspaces = methods_of(workspaces_pb2.DESCRIPTOR.services_by_name["WorkspaceService"])
    assert any(each.access.operator for each in workspaces)


def test_a_method_is_known_to_stream() -> None:
    """Who sends more than one message is read from the contract, so no transport takes a stream for a plain call."""
    file = descriptor_pb2.FileDescriptorProto(name="streams.proto", package="streams")
    file.message_type.add(name="Empty")
    service = file.service.add(name="Streams")
    for name, client, server in (("Ask", False, False), ("Watch", False, True), ("Talk", True, True)):
        service.method.add(
            name=name,
            input_type=".streams.Empty",
            output_type=".streams.Empty",
            client_streaming=client,
            server_streaming=server,
        )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    bound = methods_of(pool.FindServiceByName("streams.Streams"))
    assert [(it.client_streaming, it.server_streaming) for it in bound] == [(False, False), (False, True), (True, True)]
    assert [it.streams for it in bound] == [False, True, True]


def test_headers_are_read_by_name(method: Method) -> None:
    """Repeated headers are joined, absent and binary ones are empty."""
    call = call_with(method, ("a", "1"), ("b", "2"), ("a", "3"), ("c-bin", b"4"))
    assert call.header("a") == "1, 3"
    assert call.header("c-bin") == ""
    assert call.header("z") == ""


def test_credentials_are_counted_by_what_they_say(method: Method) -> None:
    """The same credential twice is one; another beside it is seen, also when it hides in another form."""
    assert call_with(method).credential() == ""
    same = call_with(method, ("authorization", "x"), ("authorization", "x"))
    assert same.credential() == "x"
    assert call_with(method, ("authorization", "x"), ("authorization", "y")).credential() is None
    assert call_with(method, ("authorization", b"x"), ("authorization", "y")).credential() is None


@pytest.mark.parametrize("value", ("a\nb", "a\x00", "\x7f", "é", "a\u2028b"))
def test_a_header_that_is_no_printable_ascii_is_refused(method: Method, value: str) -> None:
    """Whatever engine let it through, a control character reaches no handler, and is not echoed."""
    call = call_with(method, ("x-note", value), ("authorization", value))
    with pytest.raises(InvalidRequestError) as caught:
        call.header("x-note")
    assert value not in caught.value.public
    with pytest.raises(InvalidRequestError):
        call.credential()


def test_a_deadline_only_comes_nearer(method: Method) -> None:
    """What is left of a deadline is never negative and never grows; without one there is none."""
    assert call_with(method).remaining_ms is None
    call = call_with(method, remaining_s=5.0)
    first, second = call.remaining_ms, call.remaining_ms
    assert first is not None
    assert second is not None
    assert 0 <= second <= first <= 5_000
    assert call_with(method, remaining_s=-1.0).remaining_ms == 0


@pytest.mark.parametrize(
    ("address", "host"),
    (
        ("ipv4:127.0.0.1:80", "127.0.0.1"),
        ("ipv6:[::1]:80", "::1"),
        ("ipv6:%5B::1%5D:80", "::1"),
        ("ipv6:[fe80::1%25eth0]:80", "fe80::1%eth0"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("::1:80", "::1"),
        ("2001:db8::1:80", "2001:db8::1"),
        ("unix:", ""),
        ("unix:/tmp/x:1", ""),
        ("", ""),
    ),
)
def test_a_peer_is_an_address_without_its_port(address: str, host: str) -> None:
    """An allow-list compares addresses, however the engine writes the other end."""
    assert host_of(address) == host
