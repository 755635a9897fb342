"""``/metrics``: the numbers of this process for Prometheus, for those who may see them.

There is nothing of any tenant in them, but how busy an installation is, is nobody's business either: by default only
this machine is answered. Whoever may not see them is told that there is nothing.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

METRICS_PATH = "/metrics"
Render = Callable[[str], Awaitable[tuple[bytes, str]]]
"""Writes all metrics in the best format that an ``accept`` header takes; returns the bytes and their content type."""


def metrics_route(render: Render, *, to_others: bool, token: str) -> Route:
    """Serve the metrics: to this machine alone unless ``to_others``, and, when there is one, for ``token`` alone."""

    async def answer(request: Request) -> Response:
        if not to_others and not _from_here(request):
            raise HTTPException(404)
        if token and not _shows(request, token):
            raise HTTPException(
                401, "Send authorization: Bearer, with the metrics_token.", {"www-authenticate": "Bearer"}
            )
        body, content_type = await render(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    return Route(METRICS_PATH, answer)


def _from_here(request: Request) -> bool:
    host = request.client.host if request.client is not None else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _shows(request: Request, token: str) -> bool:
    scheme, _, shown = request.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and secrets.compare_digest(shown.strip().encode(), token.encode())
