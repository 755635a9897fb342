"""The load generator's two clients, without sockets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import frames
from bench.conversation import ProtocolError
from bench.http1 import Http1Conversation
from bench.http2 import Http2Conversation

FIELDS = ((":method", "POST"), (":path", "/x.Y/Z"))
ROOMY = frames.settings({frames.MAX_CONCURRENT_STREAMS: 1_000})


def reply(stream: int, body: bytes) -> bytes:
    """Return a whole reply, as a server sends it."""
    return (
        frames.frame(frames.HEADERS, frames.END_HEADERS, stream, b"\x88")
        + frames.frame(frames.DATA, 0, stream, frames.message(body))
        + frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream, b"\xbf")
    )


def refusal(stream: int) -> bytes:
    """Return a reply of trailers alone, as a server refuses a call."""
    return frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream, b"\x88")


@pytest.fixture
def grpc() -> Http2Conversation:
    """Lend a connection whose replies must begin with ``valid: true``."""
    return Http2Conversation(FIELDS, expected=b"\x08\x01")


@pytest.fixture
def http() -> Http1Conversation:
    """Lend a connection whose answers must hold VALID."""
    return Http1Conversation("POST", "/x", [("host", "h")], expected=b"VALID")


def test_the_first_call_teaches_the_headers_and_the_next_names_them(grpc: Http2Conversation) -> None:
    """What is said is the preface once, then two frames a call on odd streams."""
    grpc.call(b"one", 0)
    grpc.call(b"two", 0)
    calls = grpc.to_send().removeprefix(frames.opening())
    assert calls == b"".join(
        [
            frames.frame(frames.HEADERS, frames.END_HEADERS, 1, frames.first_block(FIELDS)),
            frames.frame(frames.DATA, frames.END_STREAM, 1, frames.message(b"one")),
            frames.frame(frames.HEADERS, frames.END_HEADERS, 3, frames.later_block(FIELDS)),
            frames.frame(frames.DATA, frames.END_STREAM, 3, frames.message(b"two")),
        ]
    )


@given(st.lists(st.integers(1, 60), max_size=20))
def test_replies_may_come_in_any_pieces(cuts: list[int]) -> None:
    """However the network cuts what the server sends, each call ends once, with its own latency."""
    grpc = Http2Conversation(FIELDS, expected=b"\x08\x01")
    grpc.call(b"", 100)
    grpc.call(b"", 200)
    whole = ROOMY + reply(3, b"\x08\x01\x10\x01") + reply(1, b"\x08\x01")
    for length in [*cuts, len(whole)]:
        grpc.received(whole[:length], 1_000)
        whole = whole[length:]
    assert (grpc.latencies_ns, grpc.failed, grpc.under_way) == ([800, 900], 0, 0)


def test_a_reply_in_two_frames_is_one_reply(grpc: Http2Conversation) -> None:
    """A message's head may come in a frame of its own."""
    grpc.call(b"", 0)
    message = frames.message(b"\x08\x01")
    grpc.received(frames.frame(frames.DATA, 0, 1, message[:5]) + frames.frame(frames.DATA, 0, 1, message[5:]), 5)
    grpc.received(refusal(1), 9)
    assert grpc.latencies_ns == [9]


@pytest.mark.parametrize(
    "answer",
    (
        pytest.param(refusal(1), id="refused"),
        pytest.param(reply(1, b"\x10\x03"), id="another verdict"),
        pytest.param(frames.frame(frames.RST_STREAM, 0, 1, bytes(4)), id="reset"),
    ),
)
def test_what_was_not_hoped_for_is_a_failure(grpc: Http2Conversation, answer: bytes) -> None:
    """A server cannot look fast by refusing: such calls are counted, shown and have no latency."""
    grpc.call(b"", 0)
    grpc.received(answer, 1)
    assert (grpc.failed, grpc.latencies_ns, grpc.under_way) == (1, [], 0)
    assert grpc.failure


def test_the_protocol_is_obeyed(grpc: Http2Conversation) -> None:
    """Settings and pings are answered."""
    grpc.to_send()
    grpc.received(frames.settings({}) + frames.frame(frames.PING, 0, 0, b"12345678"), 0)
    expected = frames.frame(frames.SETTINGS, frames.ACK, 0) + frames.frame(frames.PING, frames.ACK, 0, b"12345678")
    assert grpc.to_send() == expected


def test_the_window_is_kept(grpc: Http2Conversation) -> None:
    """No more is sent than the server has room for, until it says that there is room again."""
    grpc.received(ROOMY, 0)
    while grpc.room:
        grpc.call(bytes(10_000), 0)
    assert grpc.under_way == 5
    grpc.received(frames.window_update(0, 50_000), 0)
    assert grpc.room


def test_the_number_of_streams_is_kept(grpc: Http2Conversation) -> None:
    """No more calls are under way than the server allows."""
    grpc.received(frames.settings({frames.MAX_CONCURRENT_STREAMS: 2}), 0)
    while grpc.room:
        grpc.call(b"", 0)
    assert grpc.under_way == 2


def test_a_server_that_goes_away_ends_the_measurement(grpc: Http2Conversation) -> None:
    """Nothing is measured on a connection that the server gives up."""
    with pytest.raises(ProtocolError):
        grpc.received(frames.frame(frames.GOAWAY, 0, 0, bytes(8)), 0)


def test_a_request_is_whole(http: Http1Conversation) -> None:
    """Headers, the body's length, the body."""
    http.call(b"{}", 0)
    assert http.to_send() == b"POST /x HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\n{}"


@pytest.mark.parametrize(
    "answer",
    (
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{VALID}", id="with a length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n{VALID}\r\n0\r\n\r\n", id="in chunks"),
    ),
)
def test_answers_may_come_in_any_pieces(http: Http1Conversation, answer: bytes) -> None:
    """An answer counts when its last byte is there, not before."""
    for place in range(len(answer)):
        http.call(b"", 0)
        http.received(answer[:place], 1)
        assert http.under_way == 1
        http.received(answer[place:], 2)
        assert http.under_way == 0
    assert http.latencies_ns == [2] * len(answer)
    assert http.failed == 0


def test_other_answers_are_failures(http: Http1Conversation) -> None:
    """Neither a refusal nor another verdict counts as a call."""
    for answer in (
        b"HTTP/1.1 503 no\r\nContent-Length: 5\r\n\r\nVALID",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    ):
        http.call(b"", 0)
        http.received(answer, 1)
    assert (http.failed, http.latencies_ns) == (2, [])
