"""A sink's destination as stored text, the same for every store."""

from __future__ import annotations

import json
from dataclasses import asdict

from keystead.events.model import canonical
from keystead.sinks.model import Destination, FileDestination, HttpDestination, Kind


def destination_text(destination: Destination) -> str:
    """Write where a sink carries to."""
    return canonical(asdict(destination))


def destination_from(kind: str, text: str) -> Destination:
    """Read what ``destination_text`` wrote."""
    stored = json.loads(text)
    return HttpDestination(**stored) if kind == Kind.HTTP else FileDestination(**stored)
