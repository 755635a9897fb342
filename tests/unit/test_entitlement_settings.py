"""The settings of the Entitlements feed: what cannot work is refused at the start, by its name."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from keystead.config import ConfigError, load_settings


def test_nothing_is_told_unless_somebody_says_where() -> None:
    """A fresh installation sends nothing to anybody, and has both default meters ready."""
    settings = load_settings()
    assert settings.entitlements_url == ""
    assert settings.entitlements_meters == "api_calls=calls, api_cost=cost"


@pytest.mark.parametrize(
    "url",
    (
        "http://127.0.0.1:8090/api/v1/events",
        "https://billing.internal/api/v1/events?region=eu",
        "http://[::1]:8090",
    ),
)
def test_web_addresses_are_taken(url: str) -> None:
    """Any HTTP endpoint can be told, by name or address."""
    assert load_settings(entitlements_url=url).entitlements_url == url


@pytest.mark.parametrize(
    ("given", "said"),
    (
        ({"entitlements_url": "billing.internal"}, "entitlements_url"),
        ({"entitlements_url": "ftp://billing.internal/"}, "entitlements_url"),
        ({"entitlements_url": "https://user:pa55@billing.internal/"}, "entitlements_url"),
        ({"entitlements_url": "https://billing.internal/a b"}, "entitlements_url"),
        ({"entitlements_token": "two\nlines"}, "entitlements_token"),
        ({"entitlements_meters": "calls"}, "entitlements_meters"),
        ({"entitlements_from": "2026-11-01"}, "entitlements_from"),
        ({"entitlements_from": "2026-11-01T00:00:00"}, "entitlements_from"),
        ({"entitlements_retry_max_ms": 10}, "entitlements_retry_max_ms"),
    ),
)
def test_what_cannot_work_is_refused_by_its_name(given: dict[str, Any], said: str) -> None:
    """A slip stops the start with the setting's name and variable, and repeats no secret."""
    with pytest.raises(ConfigError, match=said) as refused:
        load_settings(**given)
    assert "pa55" not in refused.value.public


def test_a_beginning_names_its_zone() -> None:
    """The moment from which on usage is billed is the same on every machine."""
    settings = load_settings(entitlements_from="2026-11-01T00:00:00+01:00")
    assert settings.entitlements_from == datetime(2026, 10, 31, 23, tzinfo=UTC)
