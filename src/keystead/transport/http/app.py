"""The whole HTTP application: calls of services go through the gate to Connect, everything else to the plain paths."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import structlog
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from keystead.kernel.ids import new_id
from keystead.transport.calls import Dispatcher, Method, StreamDispatcher
from keystead.transport.http.connect import ConnectApplication
from keystead.transport.http.gate import Gate
from keystead.transport.http.plain import Readiness, plain_application, problem
from keystead.transport.http.settings import HttpSettings
from keystead.transport.refusals import outline

OPENAPI = Path(__file__).parents[2] / "gen" / "openapi.json"

_SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    # Replies hold secrets; nothing between here and the caller may keep one.
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
_STRICT_TRANSPORT = (b"strict-transport-security", b"max-age=31536000")
_log = structlog.get_logger(__name__)


class HttpApplication:
    """An ASGI application."""

    def __init__(
        self,
        methods: Sequence[Method],
        dispatch: Dispatcher,
        ready: Readiness,
        settings: HttpSettings,
        *,
        stream_dispatch: StreamDispatcher | None = None,
        openapi: Path = OPENAPI,
        routes: Sequence[BaseRoute] = (),
    ) -> None:
        """Serve ``methods`` and the plain paths; ``routes`` are more of these.

        Without ``stream_dispatch`` methods that stream are refused.
        """
        connect = ConnectApplication(
            methods, dispatch, stream_dispatch, message_maximum_bytes=settings.message_maximum_bytes
        )
        self._calls: ASGIApp = Gate(
            connect,
            methods,
            message_maximum_bytes=settings.message_maximum_bytes,
            body_timeout_ms=settings.body_timeout_ms,
        )
        self._plain: ASGIApp = plain_application(ready, openapi, routes)
        self._prefixes = tuple(sorted({f"/{method.service}/" for method in methods}))
        self._headers = (*_SECURITY_HEADERS, *([_STRICT_TRANSPORT] if settings.tls else []))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        inner = self._calls if scope["path"].startswith(self._prefixes) else self._plain
        guarded = _GuardedSend(send, self._headers)
        try:
            await inner(scope, receive, guarded)
        except Exception as error:  # noqa: BLE001  # the server would log its text, which may quote a request
            await self._fault(error, scope, receive, guarded)

    async def _fault(self, error: Exception, scope: Scope, receive: Receive, send: _GuardedSend) -> None:
        error_id = new_id("err", now_ms=time.time_ns() // 1_000_000)
        _log.error("unexpected error", error_id=error_id, method=scope["path"][:200], traceback=outline(error))
        if not send.started:
            await problem(500, f"Internal error; quote {error_id}.")(scope, receive, send)


class _GuardedSend:
    """Adds the security headers that the answer does not set itself."""

    def __init__(self, send: Send, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self._send = send
        self._headers = headers
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            present = {name for name, _ in message["headers"]}
            added = [(name, value) for name, value in self._headers if name not in present]
            message = {**message, "headers": [*message["headers"], *added]}
        await self._send(message)
