"""The page of events: the catalogue of what can happen, and what is recorded of it."""

from __future__ import annotations

from keystead.kernel.change import Action
from tools.docs_markdown import code, table
from tools.docs_texts import EVENTS

_OPENING = """# Events

Every change makes exactly one event for each thing that it changed, in the same transaction. A call that changes
nothing (revoking a revoked key, an update to what is so already) makes none. The surface to read them comes later;
the names are settled, since webhooks will carry the same.

"""
_CLOSING = """
## What an event holds

| field | what it is |
| --- | --- |
| `id` | `evt_` and a UUIDv7 |
| `workspace_id`, `environment` | where it happened; `environment` is empty for owners and workspaces |
| `occurred_at_ms` | when, in milliseconds since 1970, by the clock of the node that made the change |
| `action` | one of the above |
| `actor` | `type` is `key` (a management or operator key, by `id`) or `system` (`command-line`) |
| `owner_id`, `target` | whom it concerns, and the id of what changed |
| `changes` | field → `before` and `after`; of secrets only id, prefix and end |
| `reason` | what the caller gave |
| `request_id` | the caller's `x-request-id` header, if any |
| `committed` | `client_ip` and `user_agent` as salted commitments; the values stand beside the record |

How they are ordered and kept is in [the event log](../explanation/event-log.md).
"""


def page() -> str:
    """Write the page."""
    rows = [[code(action), *_text(action)] for action in Action]
    return _OPENING + table(("action", "what happened", "target", "made by"), rows) + _CLOSING


def _text(action: Action) -> tuple[str, str, str]:
    happened, target, made_by = EVENTS[action]
    return happened, target, ", ".join([code(name) for name in made_by])
