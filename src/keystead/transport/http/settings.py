"""What can be chosen about the HTTP listener."""

from __future__ import annotations

from dataclasses import dataclass

from keystead.transport.listening import Address, TlsFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """Bounds of the HTTP listener; a client that keeps to none of them is cut off."""

    address: Address
    tls: TlsFiles | None = None
    message_maximum_bytes: int = 1_048_576
    """The body as sent, and again unpacked."""
    headers_maximum_bytes: int = 16_384
    headers_timeout_ms: int = 10_000
    """From the first byte of a connection, or of its next request, to the end of the headers."""
    body_timeout_ms: int = 30_000
    idle_timeout_s: int = 75
    """How long an idle connection is kept. Longer than most proxies keep theirs, so that they close first."""
    concurrency_maximum: int = 1_000
    """Connections, and requests under way; past it the answer is 503."""
