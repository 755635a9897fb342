"""Tests of taking secrets out of texts."""

from __future__ import annotations

import pytest

from keystead.kernel.bounds import Bounds
from keystead.kernel.errors import InvalidRequestError
from keystead.kernel.redaction import holds_secret, redact
from keystead.scopes.model import check_granted

SECRET = "acme_live_0123456789AB" + "x" * 46
PREFIX = "acme_live_0123456789AB"


@pytest.mark.parametrize(
    "text", (SECRET, f"a {SECRET} b", f"{SECRET}{SECRET}", SECRET[:40], f"/path/{SECRET}?q", SECRET + "9")
)
def test_a_secret_is_taken_out_wherever_it_stands(text: str) -> None:
    """Whole, cut off, run together or inside something: nothing after the prefix is left (P1)."""
    assert holds_secret(text)
    assert "xxxxxxxx" not in redact(text)
    assert PREFIX in redact(text)


@pytest.mark.parametrize(
    "text", ("", "acme_live_", PREFIX, "key_01h455vb4pex5vsknk084sn02q", "read:invoices", "acme_prod_" + "x" * 58)
)
def test_what_is_no_secret_stays(text: str) -> None:
    """Prefixes, ids and ordinary texts are left as they are."""
    assert not holds_secret(text)
    assert redact(text) == text


def test_no_field_keeps_a_secret() -> None:
    """A secret in a name, an owner's id, metadata, a tag or a scope is refused, so it never reaches a store (P1)."""
    bounds = Bounds()
    bounds.text("name", SECRET, at_most=100)
    bounds.owner_id("owner_id", SECRET)
    bounds.metadata("metadata", {"note": SECRET, SECRET[:40]: "x"})
    bounds.texts("tags", [SECRET], at_most_items=20, at_most=100)
    check_granted(bounds, "scopes", [f"read:{SECRET}"])
    with pytest.raises(InvalidRequestError) as refused:
        bounds.raise_if_any()
    fields = {violation.field for violation in refused.value.violations}
    assert fields == {"name", "owner_id", "metadata[note]", "metadata", "tags[0]", "scopes[0]"}
