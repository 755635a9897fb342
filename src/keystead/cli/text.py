"""Small texts for people: times as one says them, and nothing that a terminal would take for a command."""

from __future__ import annotations

from datetime import UTC, datetime

from keystead.kernel.bounds import has_control_characters

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_SECONDS_PER_DAY = 86_400


def harmless(text: str) -> str:
    """Replace control characters, which a server of somebody else's might send, by question marks."""
    if not has_control_characters(text):
        return text
    return "".join(letter if letter == "\n" or not has_control_characters(letter) else "?" for letter in text)


def moment_ms(timestamp: str) -> int:
    """Read a time as protobuf's JSON writes it; milliseconds since the epoch, rounded down."""
    whole, _, fraction = timestamp.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
    return seconds * 1_000 + int((fraction + "000")[:3])


def span(duration_ms: int, *, parts: int = 1) -> str:
    """Say a duration in its largest unit (``3 min``), or in its ``parts`` largest (``23 h 59 min``), rounded down."""
    left_s = max(0, duration_ms) // 1_000
    words: list[str] = []
    for seconds, unit in _UNITS:
        # Two days are said in hours, so that "1 d" never hides almost another one.
        if not words and unit == "d" and left_s < 2 * _SECONDS_PER_DAY:
            continue
        count, rest_s = divmod(left_s, seconds)
        if count:
            words.append(f"{count} {unit}")
            left_s = rest_s
        elif words:
            break
        if len(words) == parts:
            break
    return " ".join(words) or "0 s"


def ago(timestamp: str | None, *, now_ms: int, never: str = "never") -> str:
    """Say how long ago ``timestamp`` was (``3 min ago``), or ``never`` when there is none."""
    if not timestamp:
        return never
    past_ms = now_ms - moment_ms(timestamp)
    return "just now" if past_ms < 1_000 else f"{span(past_ms)} ago"


def until(timestamp: str | None, *, now_ms: int, never: str = "never", parts: int = 1) -> str:
    """Say when ``timestamp`` will be (``in 12 d``), or how long ago it was; ``never`` when there is none."""
    if not timestamp:
        return never
    left_ms = moment_ms(timestamp) - now_ms
    return f"in {span(left_ms, parts=parts)}" if left_ms > 0 else ago(timestamp, now_ms=now_ms)
