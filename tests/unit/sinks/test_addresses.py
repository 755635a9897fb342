"""Which addresses a tenant's sink may reach."""

from __future__ import annotations

import pytest

from keystead.sinks.addresses import is_address, is_public


@pytest.mark.parametrize(
    "address", ("93.184.215.14", "8.8.8.8", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::ffff:8.8.8.8")
)
def test_the_public_internet_is_reached(address: str) -> None:
    """A service that everybody reaches is one that sinks reach."""
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    (
        "127.0.0.1",
        "127.255.1.2",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104 -- an address that must be refused
        "255.255.255.255",
        "224.0.0.1",
        "192.0.0.8",
        "192.88.99.1",
        "198.18.0.1",
        "203.0.113.7",
        "240.0.0.1",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b:1::a00:1",
        "2002:7f00:1::",
        "2001:0:1::1",
        "2001:db8::1",
        "3fff::1",
        "fe80::1",
        "fe80::1%eth0",
        "2606:4700::1%1",
        "fec0::1",
        "fc00::1",
        "fd12:3456::1",
        "ff0e::1",
        "localhost",
        "",
    ),
)
def test_nothing_else_is_reached(address: str) -> None:
    """No sink reaches this machine, its neighbours, or a private address by another road (SSRF)."""
    assert not is_public(address)


def test_an_address_is_told_from_a_name() -> None:
    """A name has to be resolved before it is judged, an address has not."""
    assert is_address("127.0.0.1")
    assert not is_address("siem.example")
