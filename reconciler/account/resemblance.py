"""Whether two forms of an evidence line differ only by what was hidden in them. Pure."""

from __future__ import annotations

import msgspec

_HIDDEN = "***"
_TEXTS = frozenset({"name", "reason", "scope", "resource"})  # made of parts that were hidden one by one


def differ_only_where_hidden(recorded: bytes, again: bytes) -> bool:
    """Compare two JSON objects: all values equal, but for texts that agree around a "***" of either.

    A secret that only the whole sentence shows (`://me:` and `x@host` in two parts) is hidden in the sentence and not
    in its parts.
    """
    before, now = msgspec.json.decode(recorded), msgspec.json.decode(again)
    different = {key for key in before | now if before.get(key) != now.get(key)}
    return bool(different) and all(key in _TEXTS and _agree(before.get(key), now.get(key)) for key in different)


def _agree(one: object, other: object) -> bool:
    return isinstance(one, str) and isinstance(other, str) and (_covers(one, other) or _covers(other, one))


def _covers(pattern: str, text: str) -> bool:
    """Whether the text is the pattern with anything in place of each "***"."""
    first, *middle = pattern.split(_HIDDEN)
    if not middle or not text.startswith(first):
        return False
    at, last = len(first), middle.pop()
    for part in middle:  # no regular expression: a name full of stars would keep it busy
        found = text.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return text.endswith(last) and len(text) - len(last) >= at
