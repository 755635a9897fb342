"""What can be chosen about the gRPC listener."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from keystead.transport.listening import Address, TlsFiles

Engine = Literal["native", "grpcio"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcSettings:
    """``engine`` is what to use without TLS; with ``tls`` it is always ``grpcio``, since ``native`` has none."""

    address: Address
    engine: Engine = "native"
    tls: TlsFiles | None = None
    reflection: bool = False
    message_maximum_bytes: int = 1_048_576
    metadata_maximum_bytes: int = 16_384
    concurrent_calls_maximum: int = 10_000
    concurrent_streams_maximum: int = 1_024
    """Calls that one connection may have under way."""
    io_threads: int = 1
    """Threads of the native engine that speak HTTP/2, outside the interpreter's lock."""

    @property
    def engine_used(self) -> Engine:
        """The engine that will really serve."""
        return "grpcio" if self.tls else self.engine
