"""Times, spans and what comes from outside, in the words of a sentence."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_SIGNALLED = 128


def span(length: timedelta) -> str:
    """Write a length of time with one unit: "3 s", "22 min", "5 h", "2 d"."""
    seconds = max(0.0, length.total_seconds())
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    if seconds < 2 * _DAY:
        return f"{seconds / _HOUR:.0f} h"
    return f"{seconds / _DAY:.0f} d"


def moment(time: datetime, now: datetime) -> str:
    """Write a time in UTC; with its date unless that is today's."""
    time, now = time.astimezone(UTC), now.astimezone(UTC)
    return f"{time:%H:%M:%S} UTC" if time.date() == now.date() else f"{time:%Y-%m-%d %H:%M:%S} UTC"


def dated(time: datetime) -> str:
    """Write a time in UTC with its date."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def rfc3339(time: datetime) -> str:
    """Write a time for a document: RFC 3339 in UTC, to the millisecond."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def one_line(value: object, limit: int = 300) -> str:
    """Make text from outside fit for a sentence."""
    text = " ".join(str(value).split())
    return text if len(text) <= limit else f"{text[:limit]}..."


def legible(text: str) -> str:
    """Put the text on one line, without anything that steers a terminal or turns the direction of writing."""
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() else " " if sign.isspace() else "\N{REPLACEMENT CHARACTER}" for sign in text
    )


def clipped(text: str, limit: int = 1500) -> str:
    """Cut off what is longer, with an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"


def signal_name(exit_code: int) -> str | None:
    """Name the signal that shells and container runtimes mean by an exit code above 128."""
    try:
        return signal.Signals(exit_code - _SIGNALLED).name
    except ValueError:
        return None
