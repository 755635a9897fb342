"""Keystead's server with every key warm: ``python -m bench.server DATA_DIR``.

Stores, loops, dispatcher and listeners are those that ``keystead serve`` puts together, the same way. Different are two
things: the cache is filled beforehand, and both gRPC engines listen, so that one process can be asked in three ways.
"""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop

from bench.installation import Installation
from bench.population import Population
from bench.serving import announce, stdin_ends
from bench.warming import warm
from keystead.bootstrap import server as bootstrap
from keystead.bootstrap.core import Core, core
from keystead.bootstrap.loops import start_loops
from keystead.bootstrap.observing import Ways, observed
from keystead.bootstrap.watched import Watched
from keystead.transport.contract import service_methods
from keystead.transport.dispatch import VERIFY_KEY
from keystead.transport.grpc.server import GrpcServer
from keystead.transport.grpc.settings import Engine, GrpcSettings
from keystead.transport.http.app import HttpApplication
from keystead.transport.http.server import HttpServer
from keystead.transport.http.settings import HttpSettings
from keystead.transport.listening import Address

_ANY = Address("127.0.0.1", 0)


async def serve(installation: Installation) -> None:
    """Serve ``installation`` until stdin ends."""
    settings = installation.settings()
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(core(settings, serving=True))
        # Private: these are steps of the real start, which offers no way to fill the cache between them.
        watched = Watched(served)
        await start_loops(stack, watched, settings)
        _fill(served, installation)
        ways = observed(served.dispatcher(), watched, None, settings)
        native = await _start_grpc(stack, ways, "native")
        grpcio = await _start_grpc(stack, ways, "grpcio")
        http = await _start_http(stack, served, ways)
        bootstrap._settle_memory()  # noqa: SLF001  # see above
        announce(native=native, grpcio=grpcio, http=http)
        await stdin_ends()


def _fill(served: Core, installation: Installation) -> None:
    with Population.open(Path(installation.population)) as population:
        warm(served, population, keys=installation.keys, workspace_id=installation.workspace_id)


async def _start_grpc(stack: AsyncExitStack, ways: Ways, engine: Engine) -> int:
    settings = GrpcSettings(address=_ANY, engine=engine)
    server = GrpcServer(service_methods(), ways.dispatch, settings, batches={VERIFY_KEY: ways.batch})
    port = await server.start()
    stack.push_async_callback(server.stop, 1)
    return port


async def _start_http(stack: AsyncExitStack, served: Core, ways: Ways) -> int:
    settings = HttpSettings(address=_ANY)
    ready = bootstrap._Readiness(served)  # noqa: SLF001  # see above
    server = HttpServer(HttpApplication(service_methods(), ways.dispatch, ready, settings), settings)
    port = await server.start()
    stack.push_async_callback(server.stop, 1)
    return port


def main() -> int:
    """Serve the data directory named on the command line."""
    uvloop.run(serve(Installation.load(Path(sys.argv[1]))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
