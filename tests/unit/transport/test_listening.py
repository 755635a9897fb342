"""Addresses as people write them."""

from __future__ import annotations

import pytest

from keystead.transport.listening import Address, ListenError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    (
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("localhost:0", "localhost", 0),
        ("[::1]:8080", "::1", 8080),
        ("[::]:65535", "::", 65535),
        ("192.0.2.1:1", "192.0.2.1", 1),
    ),
)
def test_an_address_is_read_and_written_back(text: str, host: str, port: int) -> None:
    """What a person writes is what is listened on and what is printed."""
    assert Address.parse(text) == Address(host, port)
    assert str(Address(host, port)) == text


@pytest.mark.parametrize(
    "text", ("", "8080", ":8080", "[]:8080", "::1:8080", "host:", "host:x", "host:65536", "host:-1", "host:٣")
)
def test_an_address_that_is_none_is_refused_with_a_reason(text: str) -> None:
    """A mistyped flag is explained before anything starts."""
    with pytest.raises(ValueError, match=r"HOST:PORT|brackets|no host|no number"):
        Address.parse(text)


def test_a_listen_error_names_the_address() -> None:
    """Whoever reads the last line of a log knows which address it was about."""
    error = ListenError("127.0.0.1:80", "Permission denied")
    assert str(error) == "cannot listen on 127.0.0.1:80: Permission denied"
    assert (error.address, error.reason) == ("127.0.0.1:80", "Permission denied")
