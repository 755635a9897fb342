"""What both engines do with a call once they have its bytes: decode, dispatch, encode, or refuse.

The engines' own deserialisers and limits answer with texts of their own, so they are left out: an engine moves bytes,
and everything a caller can read is decided here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any

from google.protobuf.message import Message

from keystead.kernel.errors import UnavailableError
from keystead.transport.binary import read_binary
from keystead.transport.calls import Batch, Call, Dispatcher, HeaderError, Outcome, StreamDispatcher
from keystead.transport.errors import MessageTooLargeError, MethodNotFoundError, OverloadedError
from keystead.transport.refusals import Refusal, refusal_of

Answer = bytes | Refusal
Rest = Coroutine[Any, Any, bytes]
"""What is left to be awaited of a call that was begun together with others."""
Send = Callable[[bytes], Awaitable[None]]
"""Sends one message of a stream; returns when there is room for another. Raises ``ClientGoneError``."""

PATIENCE_MS = 30_000
"""How long the client of a stream may take for one message: a stream that nobody reads holds one of few places."""


class ClientGoneError(Exception):
    """Raised when nobody is there any more to be told anything."""


class Answering:
    """Answers calls through one dispatcher, at most ``concurrent_calls_maximum`` at once."""

    def __init__(
        self,
        dispatch: Dispatcher,
        *,
        message_maximum_bytes: int,
        concurrent_calls_maximum: int,
        stream_dispatch: StreamDispatcher | None = None,
        patience_ms: int = PATIENCE_MS,
    ) -> None:
        """Keep the bounds, all of which must be positive; without ``stream_dispatch`` no stream is answered."""
        self._dispatch = dispatch
        self._stream_dispatch = stream_dispatch
        self._patience_s = patience_ms / 1_000
        self._message_maximum_bytes = message_maximum_bytes
        self._concurrent_calls_maximum = concurrent_calls_maximum
        self._running = 0

    def decode(self, call: Call, payload: bytes) -> Message:
        """Read the request; raises a ``KeysteadError`` when it is too large, or none."""
        if len(payload) > self._message_maximum_bytes:
            raise MessageTooLargeError(self._message_maximum_bytes)
        return read_binary(call.method.request, payload)

    async def answer(self, call: Call, payload: bytes) -> Answer:
        """Decode and answer. Raises nothing but what cancels the task."""
        if self._running >= self._concurrent_calls_maximum:
            return refusal_of(OverloadedError(), call.method.path)
        self._running += 1
        try:
            reply = await self._dispatch(call, self.decode(call, payload))
            if call.response_headers and not call.keep_legal_headers():
                raise HeaderError  # noqa: TRY301  # it is a fault like any that the handler raises
            return reply if isinstance(reply, bytes) else reply.SerializeToString()
        except Exception as error:  # noqa: BLE001  # whatever a handler raises becomes a refusal, here and nowhere else
            call.keep_legal_headers()
            return refusal_of(error, call.method.path)
        finally:
            self._running -= 1

    async def finish(self, call: Call, rest: Rest) -> Answer:
        """Await what is left of a call. Raises nothing but what cancels the task."""
        if self._running >= self._concurrent_calls_maximum:
            rest.close()
            return refusal_of(OverloadedError(), call.method.path)
        self._running += 1
        try:
            return await rest
        except Exception as error:  # noqa: BLE001  # whatever a handler raises becomes a refusal, here and nowhere else
            return refusal_of(error, call.method.path)
        finally:
            self._running -= 1

    async def stream(self, call: Call, payload: bytes | AsyncIterator[bytes], send: Send) -> Refusal | None:
        """Answer a call that streams, message by message; return what ended it, None when it ended well.

        Raises nothing but what cancels the task. Headers of the handler's own are not sent.
        """
        if self._running >= self._concurrent_calls_maximum:
            return refusal_of(OverloadedError(), call.method.path)
        self._running += 1
        try:
            if self._stream_dispatch is None:
                raise MethodNotFoundError(call.method.path)  # noqa: TRY301  # refused like what a handler refuses
            request = self.decode(call, payload) if isinstance(payload, bytes) else self._decoded(call, payload)
            async with aclosing(self._stream_dispatch(call, request)) as messages:
                async for message in messages:
                    await self._send(message, send)
        except ClientGoneError:
            return None
        except Exception as error:  # noqa: BLE001  # whatever a handler raises becomes a refusal, here and nowhere else
            return refusal_of(error, call.method.path)
        finally:
            self._running -= 1
        return None

    async def _decoded(self, call: Call, payloads: AsyncIterator[bytes]) -> AsyncGenerator[Message, None]:
        async for payload in payloads:
            yield self.decode(call, payload)

    async def _send(self, message: Message, send: Send) -> None:
        payload = message.SerializeToString()
        try:
            async with asyncio.timeout(self._patience_s):
                await send(payload)
        except TimeoutError:
            raise UnavailableError(f"The client took no message for {self._patience_s:g} s.") from None

    def answer_together(self, batch: Batch, calls: Sequence[tuple[Call, bytes]]) -> list[Answer | Rest | None]:
        """Answer what ``batch`` can answer at once, each call for itself; None stands for one that was not begun."""
        answers: list[Answer | Rest | None] = [None] * len(calls)
        decoded: list[tuple[Call, Message]] = []
        places: list[int] = []
        for place, (call, payload) in enumerate(calls):
            try:
                decoded.append((call, self.decode(call, payload)))
            except Exception as error:  # noqa: BLE001  # it must not cost the others their answers
                answers[place] = refusal_of(error, call.method.path)
            else:
                places.append(place)
        if decoded:
            for place, (call, _), outcome in zip(places, decoded, _outcomes(batch, decoded), strict=True):
                answers[place] = _answer_of(outcome, call)
        return answers


def _outcomes(batch: Batch, decoded: list[tuple[Call, Message]]) -> Sequence[Outcome]:
    try:
        return batch(decoded)
    except Exception as error:  # noqa: BLE001  # a fault of the batch fails its calls, not the engine
        return [error] * len(decoded)


def _answer_of(outcome: Outcome, call: Call) -> Answer | Rest | None:
    if call.response_headers and not call.keep_legal_headers():
        outcome = HeaderError()
    if isinstance(outcome, Message):
        return outcome.SerializeToString()
    if isinstance(outcome, Exception):
        return refusal_of(outcome, call.method.path)
    return outcome
