"""Sample traffic for whoever wants to see the service at work: about five verifications a second, good and bad ones.

It is an ordinary client of its own server. It never makes more than one call at a time, so it cannot get in anybody's
way, and whatever goes wrong it waits a second and goes on.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2

from keystead.bootstrap import Running
from keystead.cli.message import new_idempotency_key
from keystead.cli.problems import warn
from keystead.cli.saved_keys import reachable

PAUSE_S = 0.2
PAUSE_AFTER_FAILURE_S = 1.0
TIMEOUT_S = 5.0
TAG = "demo"

_EXPIRES_AFTER = timedelta(seconds=3)
_OWNERS = ("demo-bakery", "demo-airline", "demo-library")
_READ_AND_WRITE = ("read:invoices", "write:invoices")


@dataclass(frozen=True, slots=True)
class Ask:
    """One kind of call: with which secret, for which scope."""

    secret: str = field(repr=False)
    scope: str


class DemoCallError(Exception):
    """Raised when the server refuses the demo's own preparations."""


class Demo:
    """Prepares a few owners and keys and uses them until it is cancelled."""

    def __init__(self, management_key: str, *, tls_cert: Path | None) -> None:
        """Call as ``management_key``; with TLS trust the server's own certificate."""
        self._management_key = management_key
        self._tls_cert = tls_cert

    async def __call__(self, server: Running) -> None:
        """Run; the server may be stopped at any moment."""
        async with self._client(server) as client:
            while True:
                try:
                    await self._run(client)
                except (httpx2.HTTPError, DemoCallError) as error:
                    warn(f"the demo starts again: {error}")
                await asyncio.sleep(PAUSE_AFTER_FAILURE_S)

    async def _run(self, client: httpx2.AsyncClient) -> None:
        asks = await prepare(client)
        while True:
            ask = secrets.choice(asks)
            message = {"key": ask.secret, "environment": "LIVE", "scopeExpression": ask.scope}
            await _call(client, "VerificationService/VerifyKey", message)
            await asyncio.sleep(PAUSE_S)

    def _client(self, server: Running) -> httpx2.AsyncClient:
        tls: ssl.SSLContext | bool = False
        if self._tls_cert is not None:
            tls = ssl.create_default_context(cafile=self._tls_cert)
            tls.check_hostname = False  # it is this process's own certificate; its name is for others
        return httpx2.AsyncClient(
            base_url=reachable(server.http),
            headers={"authorization": f"Bearer {self._management_key}"},
            timeout=TIMEOUT_S,
            verify=tls,
            trust_env=False,
        )


async def prepare(client: httpx2.AsyncClient) -> list[Ask]:
    """Make owners and keys of the demo's own, in place of those of an earlier demo; return what to ask, by weight."""
    await _change(client, "KeyService/RevokeKeys", {"tag": TAG, "reason": "another demo begins"})
    good = [await _make_key(client, owner, _READ_AND_WRITE) for owner in _OWNERS]
    narrow = await _make_key(client, _OWNERS[0], ("read:invoices",))
    brief = await _make_key(client, _OWNERS[1], _READ_AND_WRITE, expires_at=datetime.now(UTC) + _EXPIRES_AFTER)
    return [
        *[Ask(secret, scope) for secret in good for scope in ("read:invoices", "write:invoices")],
        Ask(narrow, "read:invoices"),
        Ask(narrow, "write:invoices"),
        Ask(brief, "read:invoices"),
        Ask(_forge(narrow), "read:invoices"),
    ]


async def _make_key(
    client: httpx2.AsyncClient, owner_id: str, scopes: tuple[str, ...], *, expires_at: datetime | None = None
) -> str:
    message: dict[str, Any] = {
        "ownerId": owner_id,
        "createOwner": True,
        "name": "Demo",
        "environment": "LIVE",
        "scopes": list(scopes),
        "tags": [TAG],
    }
    if expires_at is not None:
        message["expiresAt"] = expires_at.isoformat().replace("+00:00", "Z")
    reply = await _change(client, "KeyService/CreateKey", message)
    return str(reply["secret"])


def _forge(secret: str) -> str:
    """Change the last character, as somebody does who has only seen what a secret looks like."""
    return secret[:-1] + ("0" if secret[-1] != "0" else "1")


async def _change(client: httpx2.AsyncClient, method: str, message: Mapping[str, Any]) -> dict[str, Any]:
    return await _call(client, method, {**message, "idempotencyKey": new_idempotency_key()})


async def _call(client: httpx2.AsyncClient, method: str, message: Mapping[str, Any]) -> dict[str, Any]:
    response = await client.post(f"/keystead.v1.{method}", json=message)
    if response.status_code != httpx2.codes.OK:
        raise DemoCallError(f"{method} answered HTTP {response.status_code}")
    found: dict[str, Any] = response.json()
    return found
