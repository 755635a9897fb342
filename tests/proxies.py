"""A TCP proxy in the test's own event loop: it can stop, be slow, and hold back the answer to one question."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_CHUNK_BYTES = 65_536


class Proxy:
    """Forwards connections to one port of 127.0.0.1.

    ``flowing`` cleared, nothing is forwarded and nothing is closed: a network that drops every packet. Every answer is
    ``delay_s`` late. ``hold`` lets a question pass and keeps what is answered on its connection until ``released`` is
    set.
    """

    def __init__(self, target_port: int) -> None:
        """Forward to ``target_port``."""
        self._target_port = target_port
        self._held_word = b""
        self._after_word = b""
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.delay_s = 0.0
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.asked = asyncio.Event()
        self.released = asyncio.Event()

    def through(self, url: str) -> str:
        """Return ``url`` with this proxy's port in the place of the target's."""
        return url.replace(f":{self._target_port}/", f":{self.port}/")

    def hold(self, word: bytes, *, after: bytes = b"") -> None:
        """Hold back the answers on the connection on which ``word`` is sent next, ``after`` that was sent on it."""
        self._held_word, self._after_word = word, after
        self.asked.clear()
        self.released.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection both ways."""
        there, back = await asyncio.open_connection("127.0.0.1", self._target_port)
        may_answer = asyncio.Event()
        may_answer.set()
        both = [
            asyncio.create_task(self._up(reader, back, may_answer)),
            asyncio.create_task(self._down(there, writer, may_answer)),
        ]
        self._tasks.update(both)
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            for end in (writer, back):
                end.close()

    async def end(self) -> None:
        """Stop forwarding for good."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _up(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, may_answer: asyncio.Event) -> None:
        begun = False
        while chunk := await source.read(_CHUNK_BYTES):
            await self.flowing.wait()
            begun = begun or (self._held_word != b"" and self._after_word in chunk)
            if begun and self._held_word and self._held_word in chunk:
                self._held_word = b""
                may_answer.clear()
                self.asked.set()
            sink.write(chunk)
            await sink.drain()

    async def _down(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, may_answer: asyncio.Event) -> None:
        while chunk := await source.read(_CHUNK_BYTES):
            await self.flowing.wait()
            if not may_answer.is_set():
                await self.released.wait()
            await asyncio.sleep(self.delay_s)
            sink.write(chunk)
            await sink.drain()


@asynccontextmanager
async def proxy_to(target_port: int) -> AsyncIterator[Proxy]:
    """Lend a proxy to ``target_port`` of 127.0.0.1."""
    proxy = Proxy(target_port)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            await proxy.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.end()
