"""A tiny client of Keystead's own API: Connect's JSON over HTTP, one call or one stream at a time.

A mutation carries an idempotency key of 128 random bits, so it may be sent once more when the connection breaks or the
server is busy, and still happens once.
"""

from __future__ import annotations

import json
import math
import ssl
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import httpx2

from keystead import __version__
from keystead.cli.connection import Connection
from keystead.cli.message import Message
from keystead.cli.problems import CommandError, ExitCode, Problem
from keystead.cli.streaming import CONTENT_TYPE, FrameError, StreamBrokenError, framed, read_frames

CONNECT_TIMEOUT_S = 5.0
RETRY_WAIT_DEFAULT_S = 0.3
RETRY_WAIT_MAX_S = 10.0
REPLY_BYTES_MAX = 64 * 1024 * 1024

_UNREACHABLE = {"unavailable", "deadline_exceeded"}
_UNAUTHORIZED = {"unauthenticated", "permission_denied"}
_WORTH_A_RETRY = {"UNAVAILABLE", "OVERLOADED", "STALE", "IDEMPOTENCY_IN_PROGRESS", "PROXY"}
_GATEWAY_STATUSES = {502, 503, 504}


class _TryAgainError(Exception):
    """A failure that may pass; ``sent`` says whether the server may have acted on the call."""

    def __init__(self, problem: Problem, *, wait_s: float, sent: bool) -> None:
        super().__init__(problem.message)
        self.problem = problem
        self.wait_s = wait_s
        self.sent = sent


class Client:
    """Calls one server as one caller; to be closed."""

    def __init__(self, connection: Connection, *, timeout_ms: int) -> None:
        """Bound every call by ``timeout_ms``."""
        self._connection = connection
        self._timeout_ms = timeout_ms
        self._http = httpx2.Client(
            base_url=connection.url,
            timeout=httpx2.Timeout(timeout_ms / 1_000, connect=min(CONNECT_TIMEOUT_S, timeout_ms / 1_000)),
            verify=_tls(connection),
            # A proxy from the environment has no business between two programs of one machine.
            trust_env=not connection.loopback,
            headers={
                "authorization": f"Bearer {connection.management_key.reveal()}",
                "content-type": "application/json",
                "connect-protocol-version": "1",
                "connect-timeout-ms": str(timeout_ms),
                "user-agent": f"keystead-cli/{__version__}",
            },
        )

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def call(self, service: str, method: str, message: Mapping[str, Any]) -> Message:
        """Call ``keystead.v1.<service>/<method>`` and return the reply; raise ``CommandError`` when there is none.

        A call that failed for want of a connection, or because the server was busy, is sent once more.
        """
        path = f"/keystead.v1.{service}/{method}"
        body = json.dumps(message, ensure_ascii=False).encode()
        try:
            return self._attempt(path, body)
        except _TryAgainError as error:
            if error.wait_s > RETRY_WAIT_MAX_S:
                raise CommandError(_with_hint(error, message)) from None
            threading.Event().wait(error.wait_s)
        try:
            return self._attempt(path, body)
        except _TryAgainError as error:
            raise CommandError(_with_hint(error, message)) from None

    def stream(self, service: str, method: str, message: Mapping[str, Any]) -> Iterator[Message]:
        """Call a method that streams, and yield its messages as they come; none may take longer than the timeout.

        Raise ``StreamBrokenError`` when it breaks in a way that may pass, ``CommandError`` when it is refused.
        """
        body = framed(json.dumps(message, ensure_ascii=False).encode())
        headers = {"content-type": CONTENT_TYPE, "accept-encoding": "identity"}
        request = self._http.build_request("POST", f"/keystead.v1.{service}/{method}", content=body, headers=headers)
        del request.headers["connect-timeout-ms"]  # a stream has no end of its own
        try:
            response = self._http.send(request, stream=True)
            try:
                yield from self._messages(response)
            finally:
                response.close()
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise StreamBrokenError(self._unreachable(error, sent=False).problem) from None
        except httpx2.TransportError as error:
            raise StreamBrokenError(self._unreachable(error, sent=True).problem) from None
        except _TryAgainError as error:
            raise StreamBrokenError(error.problem) from None

    def _messages(self, response: httpx2.Response) -> Iterator[Message]:
        if response.status_code != httpx2.codes.OK or response.headers.get("content-type") != CONTENT_TYPE:
            raise self._refusal(response, _parse_object(_read_bounded(response)))
        try:
            for last, message in read_frames(response.iter_raw()):
                if not last:
                    yield message
                elif "error" in message:
                    error = message["error"]
                    raise self._refusal(response, error if isinstance(error, dict) else None)
        except FrameError as error:
            said = f"The stream from {self._connection.url} broke: {error}."
            raise StreamBrokenError(Problem(said, "UNREACHABLE", ExitCode.UNREACHABLE)) from None

    def _attempt(self, path: str, body: bytes) -> Message:
        try:
            with self._http.stream("POST", path, content=body) as response:
                content = _read_bounded(response)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise self._unreachable(error, sent=False) from None
        except httpx2.TransportError as error:
            raise self._unreachable(error, sent=True) from None
        reply = _parse_object(content)
        if response.status_code == httpx2.codes.OK and reply is not None:
            return reply
        raise self._refusal(response, reply)

    def _unreachable(self, error: httpx2.TransportError, *, sent: bool) -> _TryAgainError:
        url, source = self._connection.url, self._connection.source
        wait_s = RETRY_WAIT_DEFAULT_S
        if isinstance(error, httpx2.TimeoutException) and sent:
            message = f"{url} did not answer within {self._timeout_ms} ms."
            wait_s = math.inf  # the time that the caller gave is spent
        elif sent:
            message = f"The connection to {url} broke before the answer came."
        else:
            message = f"{url} (from {source}) cannot be reached: {error}. Is the server running?"
        problem = Problem(message, "UNREACHABLE", ExitCode.UNREACHABLE)
        return _TryAgainError(problem, wait_s=wait_s, sent=sent)

    def _refusal(self, response: httpx2.Response, reply: Message | None) -> Exception:
        problem = self._problem(response, reply)
        if problem.code in _WORTH_A_RETRY:
            return _TryAgainError(problem, wait_s=_retry_after_s(response), sent=True)
        return CommandError(problem)

    def _problem(self, response: httpx2.Response, reply: Message | None) -> Problem:
        if reply is None or not isinstance(reply.get("code"), str):
            known = response.status_code in _GATEWAY_STATUSES
            message = f"{self._connection.url} answered HTTP {response.status_code}, not as Keystead does."
            hint = f"Is the URL right? It comes from {self._connection.source}."
            code = "PROXY" if known else "NOT_KEYSTEAD"
            return Problem(message, code, ExitCode.UNREACHABLE, hints=(hint,))
        from keystead.cli.error_details import read_details  # noqa: PLC0415 -- only a failed call pays for loading it

        status = reply["code"]
        details = read_details(reply.get("details"))
        return Problem(
            str(reply.get("message") or status),
            details.reason or status.upper(),
            _exit_code(status),
            details.violations,
            details.error_id,
            (f"The management key comes from {self._connection.source}.",) if status in _UNAUTHORIZED else (),
        )


def _exit_code(status: str) -> ExitCode:
    if status in _UNREACHABLE:
        return ExitCode.UNREACHABLE
    return ExitCode.UNAUTHORIZED if status in _UNAUTHORIZED else ExitCode.REFUSED


def _tls(connection: Connection) -> ssl.SSLContext | bool:
    if not connection.url.startswith("https://"):
        return False
    try:
        # OpenSSL itself reads SSL_CERT_FILE and SSL_CERT_DIR when no file is given.
        return ssl.create_default_context(cafile=connection.ca_file)
    except OSError as error:
        message = f"{connection.ca_file} (ca_file of {connection.source}) cannot be read as certificates: {error}."
        raise CommandError(Problem(message, "NO_CONNECTION", ExitCode.USAGE)) from None


def _read_bounded(response: httpx2.Response) -> bytes:
    content = bytearray()
    for part in response.iter_bytes():
        content += part
        if len(content) > REPLY_BYTES_MAX:
            message = f"The reply is larger than {REPLY_BYTES_MAX} bytes."
            raise CommandError(Problem(message, "REPLY_TOO_LARGE", ExitCode.REFUSED))
    return bytes(content)


def _parse_object(content: bytes) -> Message | None:
    try:
        found = json.loads(content)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _retry_after_s(response: httpx2.Response) -> float:
    text = response.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else RETRY_WAIT_DEFAULT_S


def _with_hint(error: _TryAgainError, message: Mapping[str, Any]) -> Problem:
    """Tell how to learn what became of a mutation whose answer is lost."""
    problem = error.problem
    idempotency_key = message.get("idempotencyKey")
    if not error.sent or not idempotency_key:
        return problem
    hint = (
        "It may have been done. The same command with"
        f" --idempotency-key {idempotency_key} returns its reply, or does it now, and never does it twice."
    )
    return Problem(
        problem.message, problem.code, problem.exit_code, problem.violations, problem.error_id, (*problem.hints, hint)
    )
