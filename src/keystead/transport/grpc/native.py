"""The fast engine: HTTP/2 in Rust, and as little Python for each call as there can be.

Calls reach Python as events, several at a time, over one thread that only carries them to the event loop. There each
gets a task, or, when its method has a batch, is answered with the others at once and needs none. Deadlines,
cancellation and framing are the front's; what it does not know, a reference server on a Unix socket answers.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from grpc import aio
from pygrpc_native import EVENT_CANCEL, STREAM_CLOSED, STREAM_FULL, NativeGrpcFront

from keystead.kernel.errors import UnavailableError
from keystead.transport.calls import Batch, Call, Method
from keystead.transport.grpc.answering import Answer, Answering, ClientGoneError, Rest
from keystead.transport.grpc.reference import trailing_metadata
from keystead.transport.grpc.settings import GrpcSettings
from keystead.transport.listening import ListenError
from keystead.transport.refusals import Refusal, refusal_of

_EVENTS_MAXIMUM = 128
"""How many calls one turn of the loop takes from the front: 128 verifications are about 2 ms."""

_ROOM_TURN_S = 0.02
"""How long a stream waits before it asks again whether its client has read enough to be sent more."""

_SENDING_TURN_S = 0.01
_SENDING_TURNS_MAXIMUM = 100

_Details = tuple[tuple[tuple[str, str | bytes], ...], str, float | None]
_Event = tuple[int, int, int, bytes | None, bytes | str | None, _Details | None]
_Waiting = tuple[int, Call, bytes]


class NativeEngine:
    """Serves ``methods`` on a TCP port without TLS."""

    def __init__(
        self,
        methods: Sequence[Method],
        answering: Answering,
        settings: GrpcSettings,
        *,
        batches: Mapping[str, Batch],
        fallback: aio.Server,
    ) -> None:
        """Serve ``methods``; ``fallback`` answers every other path and must have no port yet."""
        self._methods = methods
        self._batches = [batches.get(method.path) for method in methods]
        self._answering = answering
        self._settings = settings
        self._fallback = fallback
        self._directory = Path()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._stopping = False

    async def start(self) -> int:
        """Listen, and return the port; raises ``ListenError``."""
        settings = self._settings
        try:
            self._front = NativeGrpcFront(
                str(settings.address),
                [(method.path, method.server_streaming) for method in self._methods],
                io_threads=settings.io_threads,
                call_details=True,
                metrics=True,  # tells, at the end, which answers have not gone out yet
                keepalive_permit_without_calls=False,
                max_concurrent_streams=settings.concurrent_streams_maximum,
                max_metadata_size=settings.metadata_maximum_bytes,
            )
        except OSError as error:
            raise ListenError(str(settings.address), str(error)) from error
        # mkdtemp makes it for this user alone: whoever could open the socket could call without being metered.
        self._directory = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="keystead-grpc-"))
        path = str(self._directory / "fallback.sock")
        self._fallback.add_insecure_port(f"unix:{path}")
        await self._fallback.start()
        self._front.set_fallback(path)
        self._front.start()
        self._loop = asyncio.get_running_loop()
        carry = threading.Thread(target=self._carry, name="keystead-grpc-events", daemon=True)
        carry.start()
        return self._front.bound_port

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, wait ``grace_s`` for those under way, cancel the rest, close every connection."""
        self._stopping = True
        fallback = asyncio.create_task(self._fallback.stop(grace_s))
        tasks = list(self._tasks.values())
        if tasks:
            await asyncio.wait(tasks, timeout=grace_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await fallback
        await self._send_out()
        await asyncio.to_thread(self._front.close)
        await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)

    async def _send_out(self) -> None:
        """Wait, within bounds, until every answer is on its way: closing the front drops what it has not sent."""
        for _ in range(_SENDING_TURNS_MAXIMUM):
            methods = (self._front.metrics() or {}).get("methods", {})
            counts = [methods[method.path] for method in self._methods if method.path in methods]
            sent = sum(status["count"] for each in counts for status in each["status"].values())
            if sent >= sum(each["started"] for each in counts):
                break
            await asyncio.sleep(_SENDING_TURN_S)
        await asyncio.sleep(_SENDING_TURN_S)

    def _carry(self) -> None:
        """Carry events to the loop, on a thread of its own, until the front is closed."""
        receive: Callable[[int], list[_Event] | None] = self._front.recv_batch_details
        while (events := receive(_EVENTS_MAXIMUM)) is not None:
            try:
                self._loop.call_soon_threadsafe(self._take, events)
            except RuntimeError:  # the loop was closed without a stop
                self._front.close()
                return

    def _take(self, events: list[_Event]) -> None:
        """Start every call of one delivery. Runs on the loop; whatever it raised would lose calls, so it must not."""
        waiting: dict[int, tuple[Batch, list[_Waiting]]] = {}
        for kind, call_id, index, payload, _, details in events:
            if kind == EVENT_CANCEL:
                self._cancel(call_id)
            elif payload is not None and details is not None:
                call = Call(self._methods[index], *details)
                if self._stopping:
                    self._reply(
                        call_id, call, refusal_of(UnavailableError("The server is stopping."), call.method.path)
                    )
                elif (batch := self._batches[index]) is not None:
                    waiting.setdefault(index, (batch, []))[1].append((call_id, call, payload))
                else:
                    self._start(call_id, call, payload)
        for batch, group in waiting.values():
            answers = self._answering.answer_together(batch, [(call, payload) for _, call, payload in group])
            for (call_id, call, payload), answer in zip(group, answers, strict=True):
                if answer is None:
                    self._start(call_id, call, payload)
                elif isinstance(answer, bytes | Refusal):
                    self._reply(call_id, call, answer)
                else:
                    self._start(call_id, call, answer)

    def _cancel(self, call_id: int) -> None:
        task = self._tasks.get(call_id)
        if task is not None:
            task.cancel()

    def _start(self, call_id: int, call: Call, payload: bytes | Rest) -> None:
        self._tasks[call_id] = self._loop.create_task(self._run(call_id, call, payload))

    async def _run(self, call_id: int, call: Call, payload: bytes | Rest) -> None:
        try:
            if not isinstance(payload, bytes):
                self._reply(call_id, call, await self._answering.finish(call, payload))
            elif call.method.server_streaming:
                await self._stream(call_id, call, payload)
            else:
                self._reply(call_id, call, await self._answering.answer(call, payload))
        except asyncio.CancelledError:
            # When it was the client or the deadline the call is over and this says nothing to anybody.
            self._reply(call_id, call, refusal_of(UnavailableError("The server stopped."), call.method.path))
            raise
        finally:
            del self._tasks[call_id]

    async def _stream(self, call_id: int, call: Call, payload: bytes) -> None:
        async def send(message: bytes) -> None:
            # The front's own wait would hold a thread for as long as the client likes.
            while (sent := self._front.stream_try_send(call_id, message)) == STREAM_FULL:  # noqa: ASYNC110 -- it has no event
                await asyncio.sleep(_ROOM_TURN_S)
            if sent == STREAM_CLOSED:
                raise ClientGoneError

        refusal = await self._answering.stream(call, payload, send)
        if refusal is None:
            self._front.stream_end(call_id)
        else:
            self._reply(call_id, call, refusal)

    def _reply(self, call_id: int, call: Call, answer: Answer) -> None:
        if isinstance(answer, Refusal):
            trailing = trailing_metadata(answer, call.response_headers)
            self._front.fail(call_id, answer.statuses.grpc.value[0], answer.message, trailing)
        elif call.response_headers:
            self._front.respond(call_id, answer, list(call.response_headers.items()))
        else:
            self._front.respond(call_id, answer)
