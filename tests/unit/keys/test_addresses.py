"""Where a key may be used from: one spelling, no guessing, and IPv4 in IPv6's clothes is still IPv4."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystead.kernel.bounds import Bounds
from keystead.kernel.errors import InvalidRequestError
from keystead.keys.addresses import contains, normalise, one_spelling, parse_address, parse_range


@pytest.mark.parametrize(
    ("text", "spelled"),
    (
        ("192.0.2.1", "192.0.2.1/32"),
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("2001:DB8:0:0::/32", "2001:db8::/32"),
        ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
    ),
)
def test_ranges_are_read_in_one_spelling(text: str, spelled: str) -> None:
    """However a range is written, it is the same range."""
    assert str(parse_range(text)) == spelled


@pytest.mark.parametrize(
    "text",
    ("", "192.0.2.1/24", "192.0.2.0/33", "192.0.2.0/", "192.0.2.0/24/24", "192.0.2", "192.0.2.0/255.255.255.0",
     "10.0.0.0/0.255.255.255", "010.0.0.1", "localhost", "fe80::1%eth0", "192.0.2.0/\uff12\uff14", "1" * 65,
     "192.0.2.1 ", "2001:db8::1/64", "192.0.2.0/-1"),
)  # fmt: skip
def test_what_could_be_read_in_two_ways_is_no_range(text: str) -> None:
    """Bits past the length, masks, octal-looking numbers, zones, other digits: refused rather than guessed at."""
    assert parse_range(text) is None


@pytest.mark.parametrize(
    "text", ("", "192.0.2.0/24", "fe80::1%eth0", "1" * 65, "host", "192.0.2.1:80", "192.0.2.1,10.0.0.1")
)
def test_what_is_no_single_address(text: str) -> None:
    """Ranges, zones, ports and lists of forwarded addresses are no client's address."""
    assert parse_address(text) is None


@given(st.integers(0, 2**32 - 1))
def test_mapped_addresses_are_the_addresses_they_are(number: int) -> None:
    """``::ffff:a.b.c.d`` and ``a.b.c.d`` are one client, in ranges and in callers alike."""
    plain = IPv4Address(number)
    assert parse_address(f"::ffff:{plain}") == parse_address(str(plain)) == plain
    network = parse_range(f"::ffff:{plain}")
    assert network is not None
    assert contains([network], str(plain))


@given(st.integers(0, 2**128 - 1), st.integers(0, 128))
def test_what_was_normalised_reads_back_as_the_same_range(number: int, length: int) -> None:
    """The stored spelling can always be read again, or a key would be open to everyone or to nobody."""
    first = number >> (128 - length) << (128 - length)
    stored = normalise(Bounds(), "allowed_ips", [f"{IPv6Address(first)}/{length}"])
    assert normalise(Bounds(), "allowed_ips", stored) == stored
    assert parse_range(stored[0]) is not None


def test_an_unreadable_or_missing_address_lies_in_no_range() -> None:
    """``allowed_ips`` without a client address denies, also for ranges that hold everything."""
    everywhere = [network for text in ("0.0.0.0/0", "::/0") if (network := parse_range(text)) is not None]
    assert contains(everywhere, "192.0.2.1")
    assert contains(everywhere, "2001:db8::1")
    for text in ("", "unknown", "192.0.2.1/32"):
        assert not contains(everywhere, text)
    assert not contains([], "192.0.2.1")
    assert not contains(everywhere[1:], "192.0.2.1")


def test_ranges_are_bounded_named_and_kept_once() -> None:
    """A wrong range is named by its place; the good ones come back in one spelling, each once; 100 is the bound."""
    bounds = Bounds()
    found = normalise(bounds, "allowed_ips", ["192.0.2.0/24", "wrong", "::ffff:192.0.2.0/120", "192.0.2.1/32"])
    assert found == ("192.0.2.0/24", "192.0.2.1")
    assert normalise(bounds, "many", ["192.0.2.1"] * 101) == ()
    with pytest.raises(InvalidRequestError) as caught:
        bounds.raise_if_any()
    assert [item.field for item in caught.value.violations] == ["allowed_ips[1]", "many"]
    assert len(normalise(Bounds(), "many", [f"192.0.2.{number}" for number in range(100)])) == 100


@pytest.mark.parametrize(
    ("text", "spelled"),
    (
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("no address", "no address"),
        ("", ""),
    ),
)
def test_an_address_has_one_spelling(text: str, spelled: str) -> None:
    """What is stored is found again by whichever spelling; what is no address stays as it is."""
    assert one_spelling(text) == spelled
