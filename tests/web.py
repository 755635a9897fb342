"""Clients over HTTP that are cheap to make: reading a machine's authorities takes longer than most tests."""

from __future__ import annotations

import ssl
from functools import lru_cache
from typing import Any

import httpx2


def web_client(*, verify: ssl.SSLContext | None = None, **options: Any) -> httpx2.AsyncClient:
    """Make one with httpx2's ``options``, without what the environment says of proxies."""
    return httpx2.AsyncClient(verify=verify or _context(), trust_env=False, **options)


@lru_cache(maxsize=1)
def _context() -> ssl.SSLContext:
    return ssl.create_default_context()
