"""Durations as an operator writes them: "30s", "5m", "1h30m", "500ms"."""

from __future__ import annotations

import re
from datetime import timedelta

_NUMBER = r"(\d+(?:\.\d+)?)"
_FORM = re.compile(rf"(?:{_NUMBER}d)?(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?(?:{_NUMBER}ms)?")
_UNITS = (timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1), timedelta(milliseconds=1))
_NAMES = ("d", "h", "m", "s", "ms")
_LONGEST = timedelta(days=10_000)
_EXAMPLES = 'write it like "30s", "5m", "1h30m" or "500ms"'


def parse(value: object) -> timedelta:
    """Read a duration. A number without a unit, or a negative one, is a ValueError that says what to write."""
    if isinstance(value, timedelta):
        return _not_negative(value)
    if not isinstance(value, str):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        words = _without_unit(str(value)) if is_number else f"is not a duration; {_EXAMPLES}"
        raise ValueError(words)  # noqa: TRY004 - pydantic reports only ValueErrors
    text = value.replace(" ", "").lower()
    if re.fullmatch(r"-?\d+(\.\d+)?", text):
        raise ValueError(_without_unit(text))
    if text.startswith("-"):
        raise ValueError(f'"{value}" is negative; {_EXAMPLES}')
    found = _FORM.fullmatch(text)
    if not text or found is None:
        raise ValueError(f'"{value[:40]}" is not a duration; {_EXAMPLES}')
    return _total(found.groups(), value)


def text(length: timedelta) -> str:
    """Write a duration so that `parse` reads it back: "1h30m"; "0s"."""
    left, words = length, ""
    for unit, name in zip(_UNITS, _NAMES, strict=True):
        count, left = divmod(left, unit)
        words += f"{count}{name}" if count else ""
    return words or "0s"


def _total(numbers: tuple[str | None, ...], value: str) -> timedelta:
    try:
        total = sum((float(number) * unit for number, unit in zip(numbers, _UNITS, strict=True) if number), timedelta())
    except OverflowError:
        total = timedelta.max
    if total > _LONGEST:  # longer ones cannot be added to a date
        raise ValueError(f'"{value[:40]}" is too long; {_EXAMPLES}')
    return total


def _not_negative(value: timedelta) -> timedelta:
    if value < timedelta():
        raise ValueError(f"is negative; {_EXAMPLES}")
    return value


def _without_unit(number: str) -> str:
    if number.startswith("-"):
        return f"{number} is negative; {_EXAMPLES}"
    return f'{number} has no unit; write "{number}s"'
