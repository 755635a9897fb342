"""Where a Redis is, read from its URL: the forms that every client of Redis takes.

``redis://[[user]:password@]host[:port][/database]``, ``rediss://…`` for TLS, and ``unix://[[user]:password@]/path[?db=N]``
(also ``redis+unix://``). A certificate is checked against the system's authorities, or those of ``SSL_CERT_FILE``.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from keystead.kernel.secret import Secret

DEFAULT_PORT = 6379
_DATABASE_MAX = 2**31 - 1
_TCP_SCHEMES = ("redis", "rediss")
_UNIX_SCHEMES = ("unix", "redis+unix")

Made = TypeVar("Made", bound=asyncio.BaseProtocol)


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """One Redis: at ``path`` when that is not empty, else at ``host`` and ``port``."""

    host: str = ""
    port: int = DEFAULT_PORT
    path: str = ""
    database: int = 0
    user: str = ""
    password: Secret = field(default=Secret(""))
    tls: bool = False

    @classmethod
    def parse(cls, url: str) -> RedisAddress:
        """Read a URL; raise ``ValueError``, which does not repeat the URL, since a password may be in it."""
        try:
            parts = urlsplit(url)
            port = parts.port or DEFAULT_PORT
            (parts.hostname or "").encode("idna")
        except ValueError as error:
            raise ValueError("the URL of Redis has a port or a host that is none") from error
        if parts.scheme not in _TCP_SCHEMES + _UNIX_SCHEMES:
            raise ValueError("the URL of Redis must begin with redis://, rediss:// or unix://")
        user, password = unquote(parts.username or ""), Secret(unquote(parts.password or ""))
        if user and not password.reveal():
            raise ValueError("the URL of Redis names a user without a password")
        database = _database_of(parts)
        if parts.scheme in _UNIX_SCHEMES:
            if not parts.path.strip("/"):
                raise ValueError("the URL of Redis names no socket: write unix:///path/of/the/socket")
            return cls(path=unquote(parts.path), database=database, user=user, password=password)
        if not parts.hostname:
            raise ValueError("the URL of Redis names no host")
        tls = parts.scheme == "rediss"
        return cls(parts.hostname, port, database=database, user=user, password=password, tls=tls)

    def __str__(self) -> str:
        """Say where it is, without a password."""
        if self.path:
            return f"unix://{self.path}"
        return f"{'rediss' if self.tls else 'redis'}://{self.host}:{self.port}/{self.database}"

    async def connect(self, protocol: Callable[[], Made]) -> Made:
        """Open a connection; raise ``OSError`` (``ssl.SSLError`` is one) when there is none to be had."""
        loop = asyncio.get_running_loop()
        if self.path:
            _, made = await loop.create_unix_connection(protocol, self.path)
        else:
            context = ssl.create_default_context() if self.tls else None
            _, made = await loop.create_connection(protocol, self.host, self.port, ssl=context)
        return made


def _database_of(parts: SplitResult) -> int:
    in_path = parts.path.strip("/") if parts.scheme in _TCP_SCHEMES else ""
    query = parse_qs(parts.query)
    if query.keys() - {"db"}:
        raise ValueError("nothing but db may follow the ? in the URL of Redis")
    text = query.get("db", [in_path or "0"])[-1]
    if not (text.isascii() and text.isdigit() and int(text) <= _DATABASE_MAX):
        raise ValueError("the database in the URL of Redis must be a number")
    return int(text)
