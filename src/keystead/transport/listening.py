"""Where a server listens: ``HOST:PORT`` as people write it, TLS files, and the one error when it cannot."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_PORT_MAXIMUM = 65_535


class ListenError(Exception):
    """Raised when a server cannot listen; the text names the address and says why."""

    def __init__(self, address: str, reason: str) -> None:
        """Name ``address`` and the system's ``reason``."""
        super().__init__(f"cannot listen on {address}: {reason}")
        self.address = address
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. Port 0 asks for any free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``127.0.0.1:8080``, ``localhost:8080`` or ``[::1]:8080``; raises ``ValueError`` saying what is wrong."""
        host, colon, port = text.rpartition(":")
        if not colon:
            raise ValueError(f"{text!r} is no HOST:PORT")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError(f"write an IPv6 address in brackets: [{host}]:{port}")
        if not host:
            raise ValueError(f"{text!r} names no host; 0.0.0.0 or [::] is every address of the machine")
        if not (port.isascii() and port.isdigit()) or int(port) > _PORT_MAXIMUM:
            raise ValueError(f"the port in {text!r} is no number from 0 to {_PORT_MAXIMUM}")
        return cls(host, int(port))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A certificate chain and its private key, both PEM."""

    certificate: Path
    key: Path

    def check(self, address: str) -> None:
        """Raise ``ListenError`` for ``address`` when the files cannot be read or do not belong together."""
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            reason = error.strerror or "the certificate and the key do not belong together, or are not PEM"
            raise ListenError(address, f"TLS with {self.certificate} and {self.key}: {reason}") from error
