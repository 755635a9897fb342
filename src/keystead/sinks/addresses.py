"""Which addresses a sink of a tenant may reach: those of the public internet and no others.

A server that posts where its tenants say would otherwise reach what only it can reach (SSRF). ``is_global`` alone lets
through what leads to a private address by another road: NAT64, 6to4, Teredo, and groups (RFC 6890 and its followers).
"""

from __future__ import annotations

import ipaddress

_ROUNDABOUT = tuple(
    ipaddress.ip_network(text)
    for text in (
        "192.0.0.0/24",
        "192.88.99.0/24",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2001::/32",
        "2002::/16",
        "3fff::/20",
        "fec0::/10",
    )
)


def is_public(text: str) -> bool:
    """Say whether ``text`` is an address of the public internet; False for what is no address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return False
        address = address.ipv4_mapped or address
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_unspecified:
        return False
    return not any(address in network for network in _ROUNDABOUT if network.version == address.version)


def is_address(text: str) -> bool:
    """Say whether ``text`` is an address rather than a name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
