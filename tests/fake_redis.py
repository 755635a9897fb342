"""A Redis that does only what a test tells it to: it greets like one, and answers with any bytes at any time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import hiredis

from keystead.adapters.redis.rates import SCRIPT_ID


def answer(remaining: int, *, admitted: bool = True) -> bytes:
    """Write the reply about one rate of which ``remaining`` is left."""
    return b"*4\r\n:%d\r\n:%d\r\n:1000\r\n:%d\r\n" % (admitted, remaining, 0 if admitted else 1_000)


class FakeRedis:
    """``asked`` holds the questions of all connections, in order; ``send`` answers on the latest one."""

    def __init__(self) -> None:
        """Greet, and be silent otherwise."""
        self.asked: list[list[bytes]] = []
        self.loaded = 0
        self.connections = 0
        self.port = 0
        self.greeting = b"$40\r\n%b\r\n" % SCRIPT_ID.encode()
        self._writer: asyncio.StreamWriter | None = None
        self._arrived = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}"

    async def open(self) -> None:
        """Listen; on the same port as before, if there was one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Listen no more, and end all connections."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.close()

    async def until_asked(self, count: int) -> None:
        """Wait until so many questions have come, on whatever connection."""
        async with asyncio.timeout(10), self._arrived:
            await self._arrived.wait_for(lambda: len(self.asked) >= count)

    def send(self, data: bytes) -> None:
        """Write on the latest connection."""
        assert self._writer is not None
        self._writer.write(data)

    def hang_up(self) -> None:
        """End the latest connection, once what was sent on it is out."""
        assert self._writer is not None
        self._writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        commands = hiredis.Reader()
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                commands.feed(data)
                while (words := commands.gets()) is not False:
                    assert isinstance(words, list)
                    await self._take(words, writer)

    async def _take(self, words: list[bytes], writer: asyncio.StreamWriter) -> None:
        if words[0] == b"SCRIPT":
            self.loaded += 1
            writer.write(self.greeting)
        elif words[0] in {b"CLIENT", b"AUTH", b"SELECT"}:
            writer.write(b"+OK\r\n")
        else:
            await self.take_question(words, writer)

    async def take_question(self, words: list[bytes], writer: asyncio.StreamWriter) -> None:
        """Keep a question, for the test to answer."""
        async with self._arrived:
            self._writer = writer
            self.asked.append(words)
            self._arrived.notify_all()


@asynccontextmanager
async def fake_redis() -> AsyncIterator[FakeRedis]:
    """Lend one that listens."""
    made = FakeRedis()
    await made.open()
    try:
        yield made
    finally:
        await made.close()
