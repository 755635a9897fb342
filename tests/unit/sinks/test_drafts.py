"""What can be a sink, and what is wrong with what cannot."""

from __future__ import annotations

from typing import Any

import pytest

from keystead.kernel.errors import InvalidRequestError
from keystead.kernel.secret import Secret
from keystead.sinks.drafts import Outbound, Rules, SinkDraft
from keystead.sinks.model import FileDestination, HttpDestination

PUBLIC = Rules(Outbound.PUBLIC, files=True)
ANY = Rules(Outbound.ANY)
URL = "https://siem.example/events"
SECRET = "acme_live_0123456789AB" + "x" * 46


def wrong(rules: Rules = PUBLIC, **fields: Any) -> list[str]:
    """Return which fields are wrong with a draft that is right but for ``fields``."""
    try:
        SinkDraft(**{"name": "siem", "destination": HttpDestination(URL), **fields}).check(rules)
    except InvalidRequestError as error:
        return [violation.field for violation in error.violations]
    return []


@pytest.mark.parametrize(
    "url", (URL, "https://siem.example:8443/a?b=c", "https://93.184.215.14/x", "https://[2606:4700::1]/")
)
def test_public_services_over_https_can_be_destinations(url: str) -> None:
    """A sink can carry to any service of the public internet."""
    assert wrong(destination=HttpDestination(url)) == []


@pytest.mark.parametrize(
    "url",
    (
        "",
        "siem.example",
        "http://siem.example/",
        "ftp://siem.example/",
        "file:///etc/passwd",
        "https://",
        "https:///events",
        "https://user:pass@siem.example/",
        "https://siem.example/#part",
        "https://siem.example:0/",
        "https://siem.example:99999/",
        "https://siem.example:port/",
        "https://[::1",
        "https://127.0.0.1/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://0x7f000001/",
        "https://[::ffff:10.0.0.1]/",
        "https://169.254.169.254/latest/meta-data",
        "https://bücher.example/",
        "https://siem.example/\r\nhost: other",
        "https://siem example/",
        "https://siem..example/",
        "https://" + "a" * 2_000,
    ),
)
def test_other_urls_are_refused(url: str) -> None:
    """What is no https URL of a public host is refused when it is written, by the name of its field."""
    assert wrong(destination=HttpDestination(url)) == ["sink.http.url"]


def test_a_url_holds_no_secret_of_ours() -> None:
    """A secret in a URL would end in events and logs."""
    assert wrong(destination=HttpDestination(f"{URL}?key={SECRET}")) == ["sink.http.url"]


@pytest.mark.parametrize("url", ("http://127.0.0.1:8091/events", "https://10.0.0.1/", "http://siem.internal/"))
def test_a_server_may_be_set_to_reach_anything(url: str) -> None:
    """With ``outbound`` at ``any`` a sink can carry inside the operator's own network."""
    assert wrong(ANY, destination=HttpDestination(url)) == []


@pytest.mark.parametrize(
    ("fields", "named"),
    (
        ({"batch_max": 0}, "batch_max"),
        ({"batch_max": 1_001}, "batch_max"),
        ({"timeout_ms": 99}, "timeout"),
        ({"timeout_ms": 60_001}, "timeout"),
        ({"authorities": "ä"}, "authorities"),
        ({"client_certificate": "x" * 65_537}, "client_certificate"),
    ),
)
def test_bounds_of_http(fields: dict[str, Any], named: str) -> None:
    """What is out of bounds is named."""
    assert wrong(destination=HttpDestination(URL, **fields)) == [f"sink.http.{named}"]


CERTIFICATE = "-----BEGIN CERTIFICATE-----\r\nQUJD\n-----END CERTIFICATE-----"
KEY = "-----BEGIN PRIVATE KEY-----\nQUJD\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize("pem", ("", CERTIFICATE, f"\n{CERTIFICATE}\n\n{CERTIFICATE}\n"))
def test_certificates_may_be_many(pem: str) -> None:
    """None, one or a chain of them, with whitespace around each."""
    assert wrong(destination=HttpDestination(URL, client_certificate=pem, authorities=pem)) == []


@pytest.mark.parametrize(
    "pem",
    (
        CERTIFICATE + "\n" + KEY,
        KEY + CERTIFICATE,
        "# CN=acme\n" + CERTIFICATE,
        CERTIFICATE + "and",
        CERTIFICATE.replace("CERTIFICATE", "TRUSTED CERTIFICATE"),
        CERTIFICATE.replace("QUJD", KEY),
        "-----BEGIN CERTIFICATE-----" * 2_000,
    ),
)
def test_nothing_but_certificates_is_kept_in_clear(pem: str) -> None:
    """A private key beside a certificate, which OpenSSL would pass over, is refused with the field it stands in."""
    both = HttpDestination(URL, client_certificate=pem, authorities=pem)
    assert wrong(destination=both) == ["sink.http.client_certificate", "sink.http.authorities"]


def test_bounds_of_secrets() -> None:
    """A bearer token is one header's worth of ASCII; a key without its certificate proves nothing."""
    assert wrong(bearer_token=Secret("two words")) == ["sink.http.bearer_token"]
    assert wrong(bearer_token=Secret("x" * 4_097)) == ["sink.http.bearer_token"]
    assert wrong(client_key=Secret("k")) == ["sink.http.client_certificate"]
    assert wrong(client_key=Secret("ä")) == ["sink.http.client_key", "sink.http.client_certificate"]


@pytest.mark.parametrize("name", ("audit.jsonl", "a", "A-b_c.2", "x" * 100))
def test_names_of_files(name: str) -> None:
    """A file has a plain name."""
    assert wrong(destination=FileDestination(name)) == []


@pytest.mark.parametrize(
    "name",
    (
        "",
        ".",
        "..",
        ".hidden",
        "a/b",
        "../up",
        "a\\b",
        "a\0b",
        "a b",
        "ä",
        "x" * 101,
        "a.20261124T181500.123Z",
        "a.20261124T181500.123Z-2",
    ),
)
def test_other_names_of_files_are_refused(name: str) -> None:
    """No name leads out of the directory, hides, or is taken for a full file of another sink."""
    assert wrong(destination=FileDestination(name)) == ["sink.file.name"]


def test_files_need_a_directory() -> None:
    """Where the operator gave no directory, nobody writes files."""
    assert wrong(ANY, destination=FileDestination("a")) == ["sink.file"]


@pytest.mark.parametrize(
    ("fields", "named"),
    (
        ({"rotate_bytes": 65_535}, "rotate_bytes"),
        ({"rotate_bytes": 2**41}, "rotate_bytes"),
        ({"keep_files": -1}, "keep_files"),
    ),
)
def test_bounds_of_files(fields: dict[str, Any], named: str) -> None:
    """What is out of bounds is named."""
    assert wrong(destination=FileDestination("a", **fields)) == [f"sink.file.{named}"]


def test_bounds_of_the_rest() -> None:
    """Everything that is wrong is named in one reply."""
    assert wrong(name="", destination=None, strict_lag_ms=999) == ["sink.name", "sink.strict_lag", "sink"]
    assert wrong(strict_lag_ms=86_400_001) == ["sink.strict_lag"]
    assert wrong(strict_lag_ms=60_000) == []


def test_only_what_is_asked_for_is_checked() -> None:
    """A change of a name says nothing of a destination."""
    SinkDraft(name="other").check(PUBLIC, mask={"name"})
    with pytest.raises(InvalidRequestError):
        SinkDraft(name="other").check(PUBLIC, mask={"name", "http"})
    SinkDraft(destination=HttpDestination(URL)).check(PUBLIC, mask={"http"})


def test_a_destination_is_demanded() -> None:
    """What needs to know where to says so by the name of the field."""
    assert SinkDraft(destination=HttpDestination(URL)).demand_destination() == HttpDestination(URL)
    with pytest.raises(InvalidRequestError, match="either http or file"):
        SinkDraft().demand_destination()
