"""Carries CloudEvents to a service over HTTP, in batches, and proves who sends them.

Where a tenant may say what is connected to, the name is resolved once for each try, every address of it must be public,
and what is connected to is the address that was looked at: a name that changes in between leads nowhere else.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2

from keystead.adapters.outbound.certificates import CertificateContexts
from keystead.adapters.outbound.sink_files import SinkFiles
from keystead.kernel.bounds import has_control_characters
from keystead.kernel.clock import Clock
from keystead.kernel.redaction import redact
from keystead.sinks.addresses import is_public
from keystead.sinks.drafts import Outbound
from keystead.sinks.envelopes import Envelope, batch_id
from keystead.sinks.model import FileDestination, HttpDestination, Kind, Sink, SinkSecrets
from keystead.sinks.ports import Channel, Delivery, Reception

CONTENT_TYPE = "application/cloudevents-batch+json; charset=utf-8"
_ANSWER_BYTES = 300
_ADDRESSES_MAX = 4
_IN_A_THREAD_CHARACTERS = 64 * 1024
_RETRY_AFTER_MAX_S = 3_600
# The answers that are about what was sent rather than about who sent it, where to and when.
_ABOUT_THE_EVENTS = frozenset({400, 409, 413, 422})
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+\S+")
_PORTS = {"http": 80, "https": 443}


Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns all addresses of a host, for a port; raises ``OSError`` when it has none."""


class NotPublicError(OSError):
    """Raised when a name leads to an address that is not public, and sinks may reach no other."""


class _Guard:
    """Resolves names, and lets through only those that lead nowhere but where sinks may go."""

    def __init__(self, resolve: Resolve, admits: Callable[[str], bool]) -> None:
        self._resolve = resolve
        self._admits = admits

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses of a host; raise ``NotPublicError`` unless all of them are admitted."""
        found = await self._resolve(host, port)
        if not all(map(self._admits, found)):
            raise NotPublicError(f"{host} leads to an address that is not public")
        return found


class SinkDestinations:
    """The ``Destinations`` of this process: services over HTTP, and files where there is a directory for them."""

    def __init__(
        self,
        *,
        outbound: Outbound,
        clock: Clock,
        files: SinkFiles | None,
        resolve: Resolve | None = None,
        admits: Callable[[str], bool] = is_public,
    ) -> None:
        """Reach anything, or by ``outbound`` only addresses that ``admits`` lets through; sign by ``clock``."""
        self._guard = None if outbound is Outbound.ANY else _Guard(resolve or _addresses, admits)
        self._clock = clock
        self._files = files
        self.contexts = CertificateContexts()

    def kinds(self) -> Collection[Kind]:
        """Say which kinds of destination this process reaches."""
        return {Kind.HTTP} if self._files is None else {Kind.HTTP, Kind.FILE}

    def open(self, sink: Sink, secrets: SinkSecrets) -> AbstractAsyncContextManager[Channel]:
        """Open the way to a sink's destination; nothing is connected to yet."""
        if isinstance(sink.destination, FileDestination):
            if self._files is None:
                message = "there is no directory for files"
                raise ValueError(message)
            return self._files.open(sink.workspace_id, sink.destination)
        return self._http(sink.destination, secrets)

    @asynccontextmanager
    async def _http(self, destination: HttpDestination, secrets: SinkSecrets) -> AsyncIterator[Channel]:
        verify = self.contexts.of(destination, secrets.client_key.reveal())
        # Neither proxies of the environment nor redirects: what is sent goes where the sink says and nowhere else.
        async with httpx2.AsyncClient(
            verify=verify, timeout=destination.timeout_ms / 1_000, follow_redirects=False, trust_env=False
        ) as http:
            yield _HttpChannel(http, destination, secrets, guard=self._guard, clock=self._clock)


class _HttpChannel:
    """The way to one service."""

    def __init__(
        self,
        http: httpx2.AsyncClient,
        destination: HttpDestination,
        secrets: SinkSecrets,
        *,
        guard: _Guard | None,
        clock: Clock,
    ) -> None:
        self._http = http
        self._destination = destination
        self._secrets = secrets
        self._guard = guard
        self._clock = clock
        self._timeout_s = destination.timeout_ms / 1_000

    async def send(self, batch: Sequence[Envelope]) -> Delivery:
        """Post a batch and wait for the answer."""
        try:
            # Joining, encoding and signing much takes long enough to keep everybody else waiting.
            large = sum(len(it.text) for it in batch) > _IN_A_THREAD_CHARACTERS
            headers, body = await asyncio.to_thread(self._written, batch) if large else self._written(batch)
            async with asyncio.timeout(self._timeout_s):
                return await self._post(headers, body)
        except TimeoutError:
            return Delivery(Reception.FAILED, f"no answer within {self._timeout_s:g} s")
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
            return Delivery(Reception.FAILED, self._harmless(f"{type(error).__name__}: {error}"))

    def _written(self, batch: Sequence[Envelope]) -> tuple[dict[str, str], bytes]:
        """Return the headers and the body of a batch."""
        body = ("[" + ",".join(it.text for it in batch) + "]").encode()
        return self._headers(batch_id(batch), body), body

    async def _post(self, headers: Mapping[str, str], body: bytes) -> Delivery:
        if self._guard is None:
            return await self._ask(self._destination.url, headers, body, {})
        parts = urlsplit(self._destination.url)
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        refused: httpx2.ConnectError | None = None
        for address in (await self._guard.addresses(host, port))[:_ADDRESSES_MAX]:
            there = parts._replace(netloc=f"[{address}]:{port}" if ":" in address else f"{address}:{port}").geturl()
            try:
                return await self._ask(there, {**headers, "host": parts.netloc}, body, {"sni_hostname": host})
            except httpx2.ConnectError as error:
                refused = error
        raise refused or NotPublicError(f"{host} has no address")

    async def _ask(self, url: str, headers: Mapping[str, str], body: bytes, extensions: dict[str, Any]) -> Delivery:
        async with self._http.stream("POST", url, content=body, headers=headers, extensions=extensions) as answer:
            if answer.is_success:
                return Delivery(Reception.ACCEPTED, http_status=answer.status_code)
            return self._refusal(answer, await _beginning_of(answer))

    def _headers(self, name: str, body: bytes) -> dict[str, str]:
        headers = {"content-type": CONTENT_TYPE, "user-agent": "keystead"}
        if token := self._secrets.bearer_token.reveal():
            headers["authorization"] = f"Bearer {token}"
        if signing := self._secrets.signing_secret.reveal():
            headers |= signature(signing, name, self._clock.now_ms() // 1_000, body)
        return headers

    def _refusal(self, answer: httpx2.Response, text: str) -> Delivery:
        status = answer.status_code
        reception = Reception.REFUSED if status in _ABOUT_THE_EVENTS else Reception.FAILED
        return Delivery(reception, self._harmless(f"{status} {text}".strip()), status, _retry_after_ms(answer))

    def _harmless(self, text: str) -> str:
        """Take what is secret out of a text that people will see: a service may answer with what it was sent."""
        secrets = (self._secrets.bearer_token, self._secrets.signing_secret, self._secrets.client_key)
        for secret in (it.reveal() for it in secrets):
            if secret:
                text = text.replace(secret, "…")
        text = "".join(character if not has_control_characters(character) else " " for character in text)
        return _BEARER.sub(r"\1 …", redact(text))[:_ANSWER_BYTES]


def signature(secret: str, name: str, at_s: int, body: bytes) -> dict[str, str]:
    """Sign a body by Standard Webhooks: HMAC-SHA256 over id, time (of this try) and body (``v1``)."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = hmac.digest(key, f"{name}.{at_s}.".encode() + body, hashlib.sha256)
    return {
        "webhook-id": name,
        "webhook-timestamp": str(at_s),
        "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
    }


async def _addresses(host: str, port: int) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(it[4][0]) for it in found))


def _retry_after_ms(answer: httpx2.Response) -> int | None:
    """Read how long to wait; a date, or what is none, counts as not given."""
    text = answer.headers.get("retry-after", "")
    return min(int(text), _RETRY_AFTER_MAX_S) * 1_000 if re.fullmatch(r"[0-9]{1,6}", text) else None


async def _beginning_of(answer: httpx2.Response) -> str:
    """Read no more of an answer than what is worth telling."""
    body = b""
    async for part in answer.aiter_raw(_ANSWER_BYTES):
        body = part
        break
    return body[:_ANSWER_BYTES].decode("utf-8", errors="replace")
