"""One way for all log lines: to stderr, as JSON for machines or as text on a terminal.

Requests and replies are never logged whole, so no line can hold a secret (P1).
"""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog

from keystead.kernel.redaction import redact


def _without_secrets(_: object, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """The last guard before a line is written: no value of it may hold a secret (P1)."""
    return {name: redact(value) if isinstance(value, str) else value for name, value in line.items()}


_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
    _without_secrets,
]


def configure(*, level: str, form: Literal["auto", "json", "text"]) -> None:
    """Send our lines and the libraries' to stderr at ``level`` and above."""
    text = form == "text" or (form == "auto" and sys.stderr.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if text else structlog.processors.JSONRenderer(sort_keys=True)
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer], foreign_pre_chain=_SHARED
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("aiosqlite", "asyncio", "httpx2", "httpcore2", "sqlalchemy", "alembic", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
