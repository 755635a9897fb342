"""The plain HTTP paths: is it alive, is it ready, what can it do, and a page to try it.

Errors here are RFC 9457 problems, because nobody who asks for ``/livez`` speaks Connect.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from importlib import resources
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from keystead.kernel.redaction import redact

Readiness = Callable[[], Awaitable[Sequence[str]]]
"""Says what keeps the server from serving, in words that may be public; nothing when it is ready."""

_PAGES = resources.files("keystead.transport.http") / "pages"
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_INDEX = {
    "name": "keystead",
    "docs": "/docs",
    "openapi": "/openapi.json",
    "live": "/livez",
    "ready": "/readyz",
    "call": "POST /keystead.v1.<Service>/<Method> with content-type: application/json",
}


def problem(status: int, detail: str) -> Response:
    """Write an RFC 9457 problem."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": redact(detail)}
    return JSONResponse(body, status, media_type="application/problem+json")


def plain_application(ready: Readiness, openapi: Path, routes: Sequence[BaseRoute]) -> Starlette:
    """Serve the plain paths, and ``routes`` beside them."""
    return Starlette(
        routes=[
            Route("/", _index),
            Route("/livez", _live),
            Route("/readyz", _readiness(ready)),
            Route("/openapi.json", _openapi(openapi)),
            Route("/docs", _page("docs.html", "text/html")),
            Route("/docs/docs.js", _page("docs.js", "text/javascript")),
            Route("/docs/docs.css", _page("docs.css", "text/css")),
            *routes,
        ],
        exception_handlers={HTTPException: _http_problem},
    )


async def _index(_request: Request) -> Response:
    return JSONResponse(_INDEX)


async def _live(_request: Request) -> Response:
    return JSONResponse({"live": True})


def _readiness(ready: Readiness) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_request: Request) -> Response:
        reasons = list(await ready())
        body = {"ready": not reasons, "reasons": reasons}
        return JSONResponse(body, HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK)

    return answer


def _openapi(path: Path) -> Callable[[Request], Awaitable[Response]]:
    # Read once: it is part of the program.
    content = path.read_bytes() if path.is_file() else None

    async def answer(_request: Request) -> Response:
        if content is None:
            return problem(HTTPStatus.NOT_FOUND, "The OpenAPI document is not part of this build.")
        return Response(content, media_type="application/json")

    return answer


def _page(name: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    content = (_PAGES / name).read_bytes()

    async def answer(_request: Request) -> Response:
        return Response(content, media_type=media_type, headers={"content-security-policy": _PAGE_POLICY})

    return answer


async def _http_problem(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):  # Starlette only sends what the table above names
        raise error
    details = {
        HTTPStatus.NOT_FOUND: f"There is nothing at {request.url.path[:200]}; see / for what there is.",
        HTTPStatus.METHOD_NOT_ALLOWED: "Read this path by GET.",
    }
    answer = problem(error.status_code, details.get(HTTPStatus(error.status_code), error.detail))
    for name, value in (error.headers or {}).items():
        answer.headers[name] = value
    return answer
