"""The HTTP listener: uvicorn, inside a running loop and without a say in signals, logs or exits."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import uvicorn
from starlette.types import ASGIApp

from keystead.transport.http.protocol import bounded_protocol
from keystead.transport.http.settings import HttpSettings
from keystead.transport.listening import Address, ListenError

_BACKLOG = 2_048


class HttpServer:
    """Serves one application, from ``start`` to ``stop``; it cannot be started again."""

    def __init__(self, application: ASGIApp, settings: HttpSettings) -> None:
        """Prepare to serve ``application``."""
        self._application = application
        self._settings = settings
        self._server: uvicorn.Server | None = None
        self._loop_task: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Listen and serve on the running loop; returns the port. Raises ``ListenError`` naming the address."""
        listener = await _listen(self._settings.address)
        if self._settings.tls:
            try:
                self._settings.tls.check(str(self._settings.address))
            except ListenError:
                listener.close()
                raise
        config = self._config()
        config.load()
        self._server = uvicorn.Server(config)
        self._server.lifespan = config.lifespan_class(config)
        await self._server.startup(sockets=[listener])
        self._loop_task = asyncio.create_task(self._server.main_loop(), name="keystead-http")
        port: int = listener.getsockname()[1]
        return port

    async def stop(self, grace_s: float) -> None:
        """Take no new connections, wait ``grace_s`` for the requests under way, cancel the rest."""
        if self._server is None or self._loop_task is None:
            return
        self._server.should_exit = True
        self._loop_task.cancel()  # it only keeps the date, and would take a tenth of a second to notice
        await asyncio.gather(self._loop_task, return_exceptions=True)
        self._server.config.timeout_graceful_shutdown = grace_s  # type: ignore[assignment]  # it is a wait_for's timeout
        await self._server.shutdown()

    def _config(self) -> uvicorn.Config:
        settings = self._settings
        return uvicorn.Config(
            self._application,
            http=bounded_protocol(
                headers_maximum_bytes=settings.headers_maximum_bytes, headers_timeout_ms=settings.headers_timeout_ms
            ),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            # A client could write the header these trust; who is calling is for the caller to state.
            proxy_headers=False,
            server_header=False,
            date_header=True,
            backlog=_BACKLOG,
            limit_concurrency=settings.concurrency_maximum,
            timeout_keep_alive=settings.idle_timeout_s,
            ssl_certfile=settings.tls.certificate if settings.tls else None,
            ssl_keyfile=settings.tls.key if settings.tls else None,
        )


async def _listen(address: Address) -> socket.socket:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ListenError(str(address), error.strerror or "the host is unknown") from error
    family, kind, protocol, _, where = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind(where)
    except OSError as error:
        with contextlib.closing(listener):
            raise ListenError(str(address), error.strerror or "the address cannot be bound") from error
    return listener
