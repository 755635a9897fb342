"""The page of metrics, from the table that they are read by."""

from __future__ import annotations

from keystead.bootstrap.metrics import GROUPS
from tools.docs_markdown import code, table

_OPENING = """# Metrics

What `/metrics` tells, in the form of Prometheus. [How to observe](../how-to/observe.md) says who may read it, and
[settings](settings.md) has `metrics` and `metrics_token`. All numbers are of one process since it started; what is
billed is usage, which is counted in the database and not here. No label ever holds an id, an address or a text that a
caller sent: each has few values, known beforehand.

A histogram `NAME` is read as `NAME_bucket`, `NAME_sum` and `NAME_count`. What a server does not run (the Entitlements
feed, for example) has no numbers.

"""
_CLOSING = """
## Of the process

Beside these are `process_…` (memory, processor time, open files, start), `python_info` and `python_gc_…`, as
`prometheus-client` has them.

## Values of labels

| label | values |
| --- | --- |
| `code` of verdicts | the codes of [`VerifyKeyResponse.Code`](api.md) |
| `code` of refusals | the [errors](errors.md) |
| `method` | the names of [the API](api.md)'s methods |
| `ending` | `ok`, `refused` (an error for the caller), `failed` (a fault of ours), `cancelled` (the caller left) |
| `way` | `warm`, `cold` |
| `lane` | `verify`, `mint`, and `import` for secrets of distrusted master keys |
| `reader` | `invalidation`, `usage`, `attempts`, `refusals`, `entitlements` |
| `reason` | why a call was refused, as [the event log](../explanation/event-log.md#what-is-refused) tells it |
| `result` | `joined`, `repeated`, `dropped` |
"""


def page() -> str:
    """Write the page."""
    return _OPENING + "\n".join([_section(title) for title in GROUPS]) + _CLOSING


def _section(title: str) -> str:
    rows = [
        [code(metric.name), metric.kind, ", ".join(map(code, metric.labels)), metric.help] for metric in GROUPS[title]
    ]
    return f"## {title}\n\n" + table(("metric", "kind", "labels", "what it tells"), rows)
