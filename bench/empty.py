"""Servers that do nothing, to compare with: ``python -m bench.empty ENGINE``.

``native`` is Keystead's own transport around a dispatcher that answers every ``VerifyKey`` with nothing, so the
difference is what a verification costs. ``grpcio`` is grpcio's asyncio server as its manual shows it, without ours.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Sequence

import grpc
import uvloop
from google.protobuf.message import Message
from grpc import aio

from bench.serving import announce, stdin_ends
from keystead.transport.calls import Call, Outcome
from keystead.transport.contract import service_methods
from keystead.transport.dispatch import VERIFY_KEY
from keystead.transport.grpc.server import GrpcServer
from keystead.transport.grpc.settings import GrpcSettings
from keystead.transport.listening import Address


async def _native() -> None:
    async def dispatch(_call: Call, _request: Message) -> bytes:
        return b""

    def batch(calls: Sequence[tuple[Call, Message]]) -> list[Outcome]:
        return [b""] * len(calls)

    settings = GrpcSettings(address=Address("127.0.0.1", 0))
    server = GrpcServer(service_methods(), dispatch, settings, batches={VERIFY_KEY: batch})
    announce(empty=await server.start())
    await stdin_ends()
    await server.stop(0)


async def _grpcio() -> None:
    async def answer(_request: bytes, _context: object) -> bytes:
        return b""

    server = aio.server()
    service, method = VERIFY_KEY[1:].split("/")
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    announce(empty=port)
    await stdin_ends()
    await server.stop(0)


def main() -> int:
    """Serve on the engine named on the command line."""
    gc.freeze()
    if sys.argv[1:] == ["native"]:
        uvloop.run(_native())
    else:
        asyncio.run(_grpcio())
    return 0


if __name__ == "__main__":
    sys.exit(main())
