"""The gRPC listener: one set of methods, one of two engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from keystead.transport.calls import Batch, Dispatcher, Method, StreamDispatcher
from keystead.transport.grpc.answering import Answering
from keystead.transport.grpc.native import NativeEngine
from keystead.transport.grpc.reference import Health, ReferenceEngine, make_server
from keystead.transport.grpc.settings import GrpcSettings


class GrpcServer:
    """Serves methods, health and, if wished, reflection, from ``start`` to ``stop``; it cannot be started again."""

    def __init__(
        self,
        methods: Sequence[Method],
        dispatch: Dispatcher,
        settings: GrpcSettings,
        *,
        batches: Mapping[str, Batch] | None = None,
        stream_dispatch: StreamDispatcher | None = None,
    ) -> None:
        """Prepare to serve ``methods``; ``batches`` (by path) spare the native engine a task for each call.

        Without ``stream_dispatch`` those that stream are refused.
        """
        self._methods = methods
        self._dispatch = dispatch
        self._stream_dispatch = stream_dispatch
        self._settings = settings
        self._batches = batches or {}
        self._services = tuple(sorted({method.service for method in methods}))
        self._engine: NativeEngine | ReferenceEngine | None = None
        self._health: Health | None = None

    async def start(self) -> int:
        """Listen and serve on the running loop; returns the port. Raises ``ListenError`` naming the address.

        Health says NOT_SERVING until ``set_serving``.
        """
        answering = Answering(
            self._dispatch,
            message_maximum_bytes=self._settings.message_maximum_bytes,
            concurrent_calls_maximum=self._settings.concurrent_calls_maximum,
            stream_dispatch=self._stream_dispatch,
        )
        self._health = Health(self._services)
        await self._health.set_serving(serving=False)
        engine = self._make_engine(answering, self._health)
        port = await engine.start()
        self._engine = engine  # what did not start must not be stopped
        return port

    async def set_serving(self, *, serving: bool) -> None:
        """Tell whoever checks or watches health; say False some time before ``stop``, so that balancers look away."""
        if self._health is not None:
            await self._health.set_serving(serving=serving)

    async def stop(self, grace_s: float) -> None:
        """Take no new calls, wait ``grace_s`` for those under way, cancel the rest."""
        if self._engine is not None:
            await self.set_serving(serving=False)
            if self._health is not None:
                await self._health.end_watches()
            await self._engine.stop(grace_s)

    def _make_engine(self, answering: Answering, health: Health) -> NativeEngine | ReferenceEngine:
        settings = self._settings
        if settings.engine_used == "grpcio":
            server = make_server(self._methods, self._services, answering, health, settings)
            return ReferenceEngine(server, settings)
        # The native front knows no client that streams: such methods reach the server behind it, without an address.
        behind = [method for method in self._methods if method.client_streaming]
        native = [method for method in self._methods if not method.client_streaming]
        fallback = make_server(behind, self._services, answering, health, settings)
        return NativeEngine(native, answering, settings, batches=self._batches, fallback=fallback)
