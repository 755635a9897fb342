"""Where a key may be used from: addresses and CIDR ranges.

A range with bits set past its length is refused rather than guessed at. IPv4 addresses written as IPv6 (``::ffff:…``)
count as the IPv4 addresses they are, in ranges and in callers alike.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from keystead.kernel.bounds import Bounds

RANGES_PER_KEY = 100
_RANGE_CHARACTERS = 64
_LENGTH = re.compile("[0-9]{0,3}", re.ASCII)  # a netmask could be read in two ways

Network = IPv4Network | IPv6Network


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """Read one address; None when it is none (a scope id such as ``%eth0`` makes it none)."""
    if len(text) > _RANGE_CHARACTERS or "%" in text:
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def one_spelling(text: str) -> str:
    """Return the one spelling of an address, so that what is stored can be found; other text as it is."""
    address = parse_address(text) if text else None
    return text if address is None else str(address)


def parse_range(text: str) -> Network | None:
    """Read one address or CIDR range; None when it is neither or has bits set past its length."""
    if len(text) > _RANGE_CHARACTERS or "%" in text or not _LENGTH.fullmatch(text.partition("/")[2]):
        return None
    try:
        network = ip_network(text)
    except ValueError:
        return None
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is not None and network.prefixlen >= 96:
        return IPv4Network((mapped, network.prefixlen - 96))
    return network


def normalise(bounds: Bounds, field: str, ranges: Sequence[str]) -> tuple[str, ...]:
    """Note in ``bounds`` what is wrong with ``ranges`` and return the good ones in one spelling, each once."""
    if len(ranges) > RANGES_PER_KEY:
        bounds.add(field, f"must have at most {RANGES_PER_KEY} entries, not {len(ranges)}")
        return ()
    good: dict[str, None] = {}
    for index, text in enumerate(ranges):
        network = parse_range(text)
        if network is None:
            bounds.add(
                f"{field}[{index}]",
                "must be an address or a CIDR range such as 192.0.2.0/24, with no bits set past its length",
            )
        else:
            good[str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)] = None
    return tuple(good)


def within(ranges: Sequence[str], networks: Sequence[Network]) -> bool:
    """Say whether each of ``ranges``, of which there must be one, lies inside one of ``networks``."""
    return bool(ranges) and all(any(_inside(text, network) for network in networks) for text in ranges)


def _inside(text: str, network: Network) -> bool:
    inner = parse_range(text)
    if isinstance(inner, IPv4Network) and isinstance(network, IPv4Network):
        return inner.subnet_of(network)
    if isinstance(inner, IPv6Network) and isinstance(network, IPv6Network):
        return inner.subnet_of(network)
    return False


def contains(networks: Sequence[Network], client_ip: str) -> bool:
    """Say whether ``client_ip`` lies in one of ``networks``; an unreadable or missing address lies in none."""
    address = parse_address(client_ip)
    return address is not None and any(address in network for network in networks)
