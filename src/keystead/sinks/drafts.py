"""What a caller says of a sink, and whether it can be one: bounds, names and where it may carry to."""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

from keystead.kernel.bounds import NAME_CHARACTERS, Bounds
from keystead.kernel.errors import invalid
from keystead.kernel.redaction import holds_secret
from keystead.kernel.secret import Secret
from keystead.sinks.addresses import is_address, is_public
from keystead.sinks.model import Destination, FileDestination, HttpDestination, Payload, SinkState

SINK_FIELDS = frozenset({"name", "http", "file", "payload", "state", "strict_lag"})
URL_CHARACTERS = 2_000
BATCH_MAX = 1_000
TOKEN_CHARACTERS = 4_096
PEM_CHARACTERS = 65_536
TIMEOUT_MIN_MS = 100
TIMEOUT_MAX_MS = 60_000
STRICT_LAG_MIN_MS = 1_000
STRICT_LAG_MAX_MS = 86_400_000
ROTATE_BYTES_MIN = 65_536
ROTATE_BYTES_MAX = 1 << 40
KEEP_FILES_MAX = 10_000

ROTATED = r"\.[0-9]{8}T[0-9]{6}\.[0-9]{3}Z(?:-[0-9]{1,4})?"
"""What follows the name of a file that was full."""

_URL = re.compile(r"[!-~]{1,2000}")
_HOST = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_ROTATED_NAME = re.compile(f".*{ROTATED}")
_TOKEN = re.compile(r"[!-~]*")
# What reads certificates skips every other block, such as a private key, which would be kept and shown in clear.
_CERTIFICATES = re.compile(
    r"\s*(?:-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----\s*)*", re.ASCII
)


class Outbound(StrEnum):
    """Where a server's sinks may carry to over HTTP: the public internet, or anywhere."""

    PUBLIC = "public"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator of a server allows: where to, and whether there is a directory for files."""

    outbound: Outbound = Outbound.PUBLIC
    files: bool = False


@dataclass(frozen=True, slots=True)
class SinkDraft:
    """What a caller says of a sink; times are milliseconds, and a ``strict_lag_ms`` of 0 is no strict mode."""

    name: str = ""
    destination: Destination | None = None
    payload: Payload = Payload.NATIVE
    state: SinkState = SinkState.ACTIVE
    strict_lag_ms: int = 0
    bearer_token: Secret = field(default_factory=lambda: Secret(""))
    client_key: Secret = field(default_factory=lambda: Secret(""))

    def check(self, rules: Rules, *, mask: Set[str] = SINK_FIELDS) -> None:
        """Raise ``InvalidRequestError`` naming every field of ``mask`` that breaks a bound."""
        bounds = Bounds()
        if "name" in mask:
            bounds.text("sink.name", self.name, at_least=1, at_most=NAME_CHARACTERS)
        if "strict_lag" in mask and not (
            self.strict_lag_ms == 0 or STRICT_LAG_MIN_MS <= self.strict_lag_ms <= STRICT_LAG_MAX_MS
        ):
            bounds.add("sink.strict_lag", "must be 1 to 86,400 s, or absent")
        if mask & {"http", "file"}:
            self._check_destination(bounds, rules)
        bounds.raise_if_any()

    def demand_destination(self) -> Destination:
        """Return where to; raise ``InvalidRequestError`` when nothing is said of it."""
        if self.destination is None:
            raise invalid("sink", "must have either http or file")
        return self.destination

    def _check_destination(self, bounds: Bounds, rules: Rules) -> None:
        match self.destination:
            case None:
                bounds.add("sink", "must have either http or file")
            case HttpDestination() as http:
                _check_http(bounds, http, rules)
                self._check_secrets(bounds, http)
            case file:
                _check_file(bounds, file, rules)

    def _check_secrets(self, bounds: Bounds, http: HttpDestination) -> None:
        token, key = self.bearer_token.reveal(), self.client_key.reveal()
        if not _TOKEN.fullmatch(token) or len(token) > TOKEN_CHARACTERS:
            bounds.add("sink.http.bearer_token", f"must be at most {TOKEN_CHARACTERS} printable characters of ASCII")
        for name, pem in (
            ("client_certificate", http.client_certificate),
            ("client_key", key),
            ("authorities", http.authorities),
        ):
            if len(pem) > PEM_CHARACTERS or not pem.isascii():
                bounds.add(f"sink.http.{name}", f"must be PEM of at most {PEM_CHARACTERS} characters")
            elif name != "client_key" and not _CERTIFICATES.fullmatch(pem):
                bounds.add(f"sink.http.{name}", "must be certificates in PEM and nothing else, above all no key")
        if key and not http.client_certificate:
            bounds.add("sink.http.client_certificate", "must be given with client_key")


def _check_http(bounds: Bounds, http: HttpDestination, rules: Rules) -> None:
    if problem := _url_problem(http.url, rules):
        bounds.add("sink.http.url", problem)
    if not 1 <= http.batch_max <= BATCH_MAX:
        bounds.add("sink.http.batch_max", f"must be 1 to {BATCH_MAX}, or absent")
    if not TIMEOUT_MIN_MS <= http.timeout_ms <= TIMEOUT_MAX_MS:
        bounds.add("sink.http.timeout", "must be 0.1 to 60 s, or absent")


def _url_problem(url: str, rules: Rules) -> str:
    """Say what keeps a URL from being one that is posted to; empty for nothing."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "must be a URL"
    public = rules.outbound is Outbound.PUBLIC
    problems = (
        (not _URL.fullmatch(url), f"must be a URL of at most {URL_CHARACTERS} printable characters of ASCII"),
        (holds_secret(url), "must not hold a secret"),
        (
            parts.scheme not in ({"https"} if public else {"https", "http"}),
            "must begin with https://; http:// is for servers that are set to allow it (outbound)",
        ),
        (
            "@" in parts.netloc or "#" in url or port == 0 or not (is_address(host) or _HOST.fullmatch(host)),
            "must name a host, without a user and without a fragment",
        ),
        (
            public and _looks_numeric(host) and not is_public(host),
            "must lead to the public internet; other addresses need a server that is set to allow them (outbound)",
        ),
    )
    return next((text for wrong, text in problems if wrong), "")


def _looks_numeric(host: str) -> bool:
    """Say whether a host is an address, also in the old ways that resolvers still read (``0x7f.1``, ``2130706433``)."""
    last = host.rstrip(".").rpartition(".")[2]
    return is_address(host) or last.isdigit() or last[:2].lower() == "0x"


def _check_file(bounds: Bounds, file: FileDestination, rules: Rules) -> None:
    if not rules.files:
        bounds.add("sink.file", "is for servers that are given a directory for them (sink_files)")
    if not _FILE_NAME.fullmatch(file.name) or _ROTATED_NAME.fullmatch(file.name):
        bounds.add(
            "sink.file.name",
            "must be 1 to 100 of [A-Za-z0-9._-], not begin with a dot, nor end as a full file does",
        )
    if not ROTATE_BYTES_MIN <= file.rotate_bytes <= ROTATE_BYTES_MAX:
        bounds.add("sink.file.rotate_bytes", f"must be {ROTATE_BYTES_MIN} to {ROTATE_BYTES_MAX}, or absent")
    if not 0 <= file.keep_files <= KEEP_FILES_MAX:
        bounds.add("sink.file.keep_files", f"must be 0 to {KEEP_FILES_MAX}")
