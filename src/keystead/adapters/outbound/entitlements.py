"""Tells the Entitlements service what was used, as CloudEvents 1.0 in batches, in the form that OpenMeter takes.

The receiver counts a pair of ``source`` and ``id`` once, so both are the same whenever an event is sent. An event's
time is the last millisecond of its window: its end would belong to the next hour, and at midnight to the next bill.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import httpx2

from keystead.kernel.redaction import redact
from keystead.kernel.secret import Secret
from keystead.usage.feed_ports import Delivery, Reception
from keystead.usage.meters import WINDOW_MS, LedgerEntry

CONTENT_TYPE = "application/cloudevents-batch+json"
_ANSWER_BYTES_LOGGED = 300
# The answers that are about what was sent rather than about who sent it, where to and when.
_ABOUT_THE_EVENTS = frozenset({400, 409, 413, 422})


def cloud_event(entry: LedgerEntry) -> dict[str, Any]:
    """Write an event. ``data.value`` is a decimal text, which no reader rounds."""
    end_ms = entry.begins_at_ms + WINDOW_MS
    return {
        "specversion": "1.0",
        "id": entry.id,
        "source": f"urn:keystead:{entry.workspace_id}:{entry.environment}",
        "type": entry.meter,
        "subject": entry.owner_id,
        "time": _moment(end_ms - 1),
        "datacontenttype": "application/json",
        "data": {
            "value": str(entry.value),
            "workspace": entry.workspace_id,
            "environment": entry.environment,
            "from": _moment(entry.begins_at_ms),
            "to": _moment(end_ms),
            "revision": entry.revision,
        },
    }


class HttpEntitlements:
    """The ``EventReceiver`` at a URL; an async context manager that holds the connections."""

    def __init__(self, url: str, *, token: Secret, timeout_ms: int) -> None:
        """Post to ``url`` with a bearer ``token``, none when it is empty; an answer may take ``timeout_ms`` in all."""
        self._url = url
        headers = {"content-type": CONTENT_TYPE}
        if token.reveal():
            headers["authorization"] = f"Bearer {token.reveal()}"
        self._timeout_s = timeout_ms / 1_000
        # Neither proxies of the environment nor redirects: the token goes where the setting says and nowhere else.
        self._http = httpx2.AsyncClient(
            headers=headers, timeout=self._timeout_s, follow_redirects=False, trust_env=False
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def send(self, entries: Sequence[LedgerEntry]) -> Delivery:
        """Send a batch and wait for the answer; what goes wrong on the way is a failed delivery."""
        body = json.dumps([cloud_event(entry) for entry in entries]).encode()
        try:
            async with asyncio.timeout(self._timeout_s), self._http.stream("POST", self._url, content=body) as answer:
                if answer.is_success:
                    return Delivery(Reception.ACCEPTED)
                return _refusal(answer, await _beginning_of(answer))
        except TimeoutError:
            return Delivery(Reception.FAILED, f"no answer within {self._timeout_s} s")
        except httpx2.HTTPError as error:
            return Delivery(Reception.FAILED, f"{type(error).__name__}: {redact(str(error))}")


def _refusal(answer: httpx2.Response, text: str) -> Delivery:
    about_the_events = answer.status_code in _ABOUT_THE_EVENTS
    reception = Reception.REFUSED if about_the_events else Reception.FAILED
    return Delivery(reception, f"{answer.status_code} {text}".strip(), _retry_after_ms(answer))


def _retry_after_ms(answer: httpx2.Response) -> int | None:
    """Read how long to wait; a date, or what is none, counts as not given."""
    text = answer.headers.get("retry-after", "")
    return int(text) * 1_000 if re.fullmatch(r"[0-9]{1,6}", text) else None


async def _beginning_of(answer: httpx2.Response) -> str:
    """Read no more of an answer than what is worth logging."""
    body = b""
    async for part in answer.aiter_bytes(_ANSWER_BYTES_LOGGED):
        body = part
        break
    return redact(body[:_ANSWER_BYTES_LOGGED].decode("utf-8", errors="replace"))


def _moment(at_ms: int) -> str:
    whole_s, milliseconds = divmod(at_ms, 1_000)
    return f"{datetime.fromtimestamp(whole_s, UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}Z"
