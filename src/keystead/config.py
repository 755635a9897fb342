"""Every setting: one typed table with unit, bounds and a sentence, from a TOML file, ``KEYSTEAD_*`` and flags."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from keystead.kernel.errors import StartError
from keystead.usage.meters import parse_meters

_PREFIX = "KEYSTEAD_"
_WEB_ADDRESS = re.compile(r"https?://[A-Za-z0-9.:\[\]_-]+(/[!-~]*)?")
CLIENT_VARIABLES = frozenset(
    {
        "KEYSTEAD_URL",
        "KEYSTEAD_GRPC_TARGET",
        "KEYSTEAD_MANAGEMENT_KEY",
        "KEYSTEAD_SAMPLE_KEY",
        "KEYSTEAD_SAMPLE_KEY_ID",
        "KEYSTEAD_PROFILE",
        "KEYSTEAD_CONFIG",
    }
)
"""Variables that are read by those who call a server, and are no settings of one."""
FLAGS = {
    "grpc": "--grpc",
    "http": "--http",
    "data_dir": "--data-dir",
    "database": "--database",
    "redis": "--redis",
    "tls_cert": "--tls-cert",
    "tls_key": "--tls-key",
    "insecure": "--insecure",
    "grpc_engine": "--engine",
}
"""The settings that have a flag."""


class ConfigError(StartError):
    """Raised when a setting cannot be used as it is given; names it, its variable and its flag."""

    code = "bad_setting"

    def __init__(self, problems: list[str]) -> None:
        """Say what is wrong, one sentence for each setting."""
        super().__init__(public="; ".join(problems))


def setting(default: Any, description: str, *, unit: str = "", **bounds: Any) -> Any:
    """Describe one setting."""
    return Field(default=default, description=description, json_schema_extra={"unit": unit}, **bounds)


class Settings(BaseSettings):
    """What a server is told. Secrets are ``SecretStr`` and never printed."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True)

    grpc: str = setting("127.0.0.1:50051", "Where gRPC listens; port 0 takes a free one.", unit="HOST:PORT")
    http: str = setting("127.0.0.1:8080", "Where HTTP listens; port 0 takes a free one.", unit="HOST:PORT")
    data_dir: Path = setting(Path("data"), "Where the embedded database and the master key live; locked by one server.")
    database: str = setting(
        "", "The database, sqlite:///PATH or postgresql://…; a file in the data directory when empty.", unit="URL"
    )
    redis: str = setting(
        "",
        "Where buckets and windows are counted for all processes together: redis://, rediss:// or unix://; in this "
        "process when empty.",
        unit="URL",
    )
    redis_timeout_ms: int = setting(
        50, "How long Redis may take before a call is decided as its plan says of an outage.", unit="ms", ge=5, le=5_000
    )
    expected_nodes: int = setting(
        1, "Among how many processes limits are shared while Redis is away (local).", unit="processes", ge=1, le=1_000
    )
    limit_counters: int = setting(
        1_000_000,
        "Buckets and windows in this process at most, about 250 bytes each.",
        unit="counters",
        ge=1_000,
        le=100_000_000,
    )
    tls_cert: Path | None = setting(None, "The certificate chain (PEM) for both listeners.")
    tls_key: Path | None = setting(None, "The private key (PEM) of the certificate.")
    insecure: bool = setting(False, "Allow a listener off loopback without TLS.")
    grpc_engine: Literal["auto", "native", "grpcio"] = setting(
        "auto", "What serves gRPC: auto is native on loopback without TLS, elsewhere grpcio (which bounds messages)."
    )
    grpc_reflection: bool = setting(False, "Serve gRPC reflection (v1alpha).")
    message_max_bytes: int = setting(1_048_576, "The largest request taken.", unit="bytes", ge=16_384, le=67_108_864)
    master_keys: SecretStr = setting(
        SecretStr(""), "The master keys, 32 bytes each in base64 or hex, newest first, separated by commas."
    )
    distrusted_masters: str = setting(
        "",
        "Ids of master keys that somebody else may hold, with commas; their secrets are proven in a lane apart.",
    )
    bcrypt_cost: int = setting(6, "The cost of new hashes; each step doubles the work.", ge=4, le=14)
    verify_threads: int = setting(2, "bcrypt threads for first verifications.", unit="threads", ge=1, le=64)
    verify_waiting: int = setting(
        500, "First verifications that may wait for a thread; more are shed.", unit="calls", ge=1, le=100_000
    )
    cached_secrets: int = setting(
        1_000_000, "Proven secrets kept in memory, about 1 KiB each.", unit="secrets", ge=1_000, le=50_000_000
    )
    staleness_bound_ms: int = setting(
        30_000, "How long a node cut off from the database may vouch for keys.", unit="ms", ge=1_000, le=600_000
    )
    serve_stale: bool = setting(False, "Answer from memory past staleness_bound_ms, marked as degraded.")
    journal_segments: int = setting(
        64, "Segments of 8 MiB that usage may wait in until it is counted.", unit="segments", ge=2, le=10_000
    )
    journal_when_full: Literal["refuse", "drop_and_count"] = setting(
        "refuse", "What happens to verdicts that cannot be written down: no answer, or an answer that is not counted."
    )
    failed_attempts_alert: int = setting(
        100,
        "Failed authentications of an address or a key within ten minutes past which an event tells of it; 0 is never.",
        unit="attempts",
        ge=0,
        le=1_000_000_000,
    )
    usage_store: str = setting(
        "",
        "Where usage is counted: clickhouse://USER:PASSWORD@HOST:PORT/DATABASE (clickhouses:// with TLS), chdb: for "
        "ClickHouse's engine in the data directory, or the database when empty.",
        unit="URL",
    )
    raw_calls_days: int = setting(30, "How long single calls are kept.", unit="days", ge=1, le=400)
    minutes_days: int = setting(35, "How long sums of usage by the minute are kept.", unit="days", ge=2, le=400)
    hours_days: int = setting(
        400,
        "How long sums of usage by the hour are kept, at least as long as minutes_days.",
        unit="days",
        ge=2,
        le=4_000,
    )
    entitlements_url: str = setting(
        "",
        "Where usage is told as CloudEvents in batches (OpenMeter's ingest); nothing is told when empty.",
        unit="URL",
    )
    entitlements_token: SecretStr = setting(SecretStr(""), "The bearer token for entitlements_url.")
    entitlements_meters: str = setting(
        "api_calls=calls, api_cost=cost",
        "1 to 20 meters, with commas: NAME=calls or NAME=cost, alone or narrowed by :operation:TEXT or :tag:TEXT.",
    )
    entitlements_from: AwareDatetime | None = setting(
        None, "From which hour on meters are told that were never told before; from the present one when not given."
    )
    entitlements_days: int = setting(
        400,
        "How long the ledger of what was told is kept, at least as long as hours_days; later usage is not told.",
        unit="days",
        ge=2,
        le=4_000,
    )
    entitlements_timeout_ms: int = setting(
        10_000, "How long the service at entitlements_url may take to answer.", unit="ms", ge=100, le=60_000
    )
    entitlements_retry_max_ms: int = setting(
        300_000, "How long a batch that failed waits at most.", unit="ms", ge=1_000, le=3_600_000
    )
    outbound: Literal["public", "any"] = setting(
        "public", "Where sinks may carry to over HTTP: the public internet by https alone, or anywhere, also by http."
    )
    sink_files: Path | None = setting(
        None, "The directory that sinks may write files in; without it they carry over HTTP alone."
    )
    poll_interval_ms: int = setting(250, "How often the event log is read.", unit="ms", ge=10, le=500)
    wake_up: Literal["auto", "off"] = setting(
        "auto",
        "Whether processes tell each other when there is news in the event log, by the database; off: each reads it "
        "every poll_interval_ms alone.",
    )
    database_timeout_ms: int = setting(
        5_000, "How long a statement may take before the call fails as unavailable.", unit="ms", ge=100, le=60_000
    )
    database_connections: int = setting(10, "PostgreSQL connections at most.", unit="connections", ge=2, le=200)
    drain_ms: int = setting(10_000, "How long calls may take to finish after SIGTERM.", unit="ms", ge=0, le=300_000)
    metrics: Literal["local", "open", "off"] = setting(
        "local", "Who may read /metrics on the HTTP listener: this machine, everybody, or nobody."
    )
    metrics_token: SecretStr = setting(SecretStr(""), "The bearer token that /metrics asks for, when there is one.")
    otlp_endpoint: str = setting(
        "", "The OpenTelemetry collector (OTLP over HTTP) that traces go to; none are made when empty.", unit="URL"
    )
    trace_sampling: float = setting(
        0.01, "The share of calls that are traced, of those whose callers did not decide.", ge=0, le=1
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting("info", "The least severe log line written.")
    log_format: Literal["auto", "json", "text"] = setting("auto", "How logs look; auto is text on a terminal.")

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if (self.tls_cert is None) != (self.tls_key is None):
            message = "tls_cert (--tls-cert) and tls_key (--tls-key) must be given together"
            raise ValueError(message)
        self._demand_entitlements()
        if self.otlp_endpoint and not _WEB_ADDRESS.fullmatch(self.otlp_endpoint):
            message = "otlp_endpoint (KEYSTEAD_OTLP_ENDPOINT) must be http:// or https://, without a user in it"
            raise ValueError(message)
        return self

    def _demand_entitlements(self) -> None:
        if self.entitlements_url and not _WEB_ADDRESS.fullmatch(self.entitlements_url):
            message = "entitlements_url (KEYSTEAD_ENTITLEMENTS_URL) must be http:// or https://, without a user in it"
            raise ValueError(message)
        token = self.entitlements_token.get_secret_value()
        if not (token.isascii() and token.isprintable()):
            message = "entitlements_token (KEYSTEAD_ENTITLEMENTS_TOKEN) must be printable ASCII"
            raise ValueError(message)
        try:
            parse_meters(self.entitlements_meters)
        except ValueError as error:
            message = f"entitlements_meters (KEYSTEAD_ENTITLEMENTS_METERS): {error}"
            raise ValueError(message) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 -- the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 -- the signature is pydantic's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 -- the signature is pydantic's
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read flags first, then the environment; the file comes in through ``load_settings``."""
        return init_settings, env_settings

    @property
    def database_url(self) -> str:
        """The database that is meant."""
        return self.database or f"sqlite:///{self.data_dir / 'keystead.db'}"

    @property
    def embedded(self) -> bool:
        """Whether everything lives in the data directory."""
        return not self.database


def load_settings(config_file: Path | None = None, **overrides: Any) -> Settings:
    """Read the settings; an override of None counts as not given. Raise ``ConfigError`` naming what is wrong."""
    given = {name: value for name, value in overrides.items() if value is not None}
    from_file = {} if config_file is None else _read_toml(config_file)
    from_environment = {name for name in Settings.model_fields if _PREFIX + name.upper() in os.environ}
    merged = {name: value for name, value in from_file.items() if name not in from_environment} | given
    try:
        return Settings(**merged)
    except ValidationError as error:
        raise ConfigError([_problem(detail) for detail in error.errors(include_input=False)]) from None


def unknown_variables() -> list[str]:
    """Return the ``KEYSTEAD_*`` variables of the environment that nothing reads: misspelt, most likely."""
    known = CLIENT_VARIABLES | {_PREFIX + name.upper() for name in Settings.model_fields}
    return sorted(name for name in os.environ if name.startswith(_PREFIX) and name not in known)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"{path} cannot be read ({error.strerror})"]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path} is no TOML ({error})"]) from None


def _problem(detail: Any) -> str:
    message = str(detail["msg"]).removeprefix("Value error, ")
    if not detail["loc"]:
        return message
    name = str(detail["loc"][0])
    flag = FLAGS.get(name)
    names = [flag] if flag else []
    return f"{name} ({', '.join([*names, _PREFIX + name.upper()])}): {message}"
