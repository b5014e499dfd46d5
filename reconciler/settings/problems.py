"""What is wrong with the configuration, in words: one line per problem, all of them at once, and never a secret."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reconciler.words import clipped, legible

_SECRET = ("api.key", "api.auth_string", "api.headers", "api.url")
_HEADERS = """must be a table of text (in a variable: a JSON object such as {"X-Name": "value"})"""
# By pydantic's type of error; the names in braces are of its context.
_EXPECTED = {
    "missing": "is missing",
    "model_type": "must be a table; write [{name}]",
    "dict_type": "must be a table",
    "mapping_type": "must be a table",
    "string_type": "must be text in quotes",
    "path_type": "must be a path in quotes",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a number",
    "frozen_set_type": "must be a list",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "string_pattern_mismatch": "may hold only letters, digits, dots, underscores and dashes",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "enum": "must be {expected}",
}


class ConfigError(Exception):
    """The configuration cannot be used. `str()` gives every problem, one per line; `file` is the file read, if any."""

    def __init__(self, problems: Sequence[str], file: Path | None = None) -> None:
        self.problems = tuple(clipped(legible(problem)) for problem in problems)
        super().__init__("\n".join(self.problems))
        self.file = file


def similar(word: str, known: Sequence[str]) -> str:
    """Write "; did you mean 'interval'?", or nothing."""
    close = get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def in_words(
    error: ValidationError,
    known: Mapping[str, Sequence[str]],
    place: Callable[[tuple[int | str, ...]], tuple[str, str]],
) -> list[str]:
    """Write each of pydantic's errors as a sentence.

    `known` has the keys of each table. `place` turns a location into the setting's name ("policy.grace") and the
    source of its value ("file x.toml"; may be empty).
    """
    lines = []
    for item in error.errors(include_url=False):
        location = item["loc"]
        name, origin = place(location)
        words = _unknown(location, known) if item["type"] == "extra_forbidden" else _wrong(item, name)
        lines.append(f"{name}: {words}" + (f" ({origin})" if origin else ""))
    return lines


def _unknown(location: tuple[int | str, ...], known: Mapping[str, Sequence[str]]) -> str:
    key = str(location[-1])
    table = str(location[0]) if len(location) > 1 else ""
    elsewhere = [other for other, keys in known.items() if key in keys and other != table]
    if elsewhere:
        return f"no such setting here; '{key}' belongs {_under(elsewhere[0])}"
    return f"no such setting{similar(key, known.get(table, ())) or '; known are ' + ', '.join(known.get(table, ()))}"


def _under(table: str) -> str:
    if not table:
        return "at the top of the file, above every table"
    return "under [[scopes]]" if table == "scopes" else f"under [{table}]"


def _wrong(item: Any, name: str) -> str:
    kind, context, value = item["type"], item.get("ctx", {}), item.get("input")
    which = f"item {item['loc'][-1] + 1} " if isinstance(item["loc"][-1], int) and not name.endswith("]") else ""
    if kind == "value_error":
        return f"{which}{context['error']}"
    return f"{which}{_expected(kind, context, name)}{_instead(kind, value, name)}"


def _expected(kind: str, context: Mapping[str, Any], name: str) -> str:
    if name == "scopes" or name.endswith("]"):
        return "must be an array of tables; write [[scopes]]"
    if name == "api.headers":
        return _HEADERS
    return _EXPECTED.get(kind, "has a value that cannot be used").format(name=name, **context)


def _instead(kind: str, value: object, name: str) -> str:
    """Write what stands there instead, unless it may be a secret."""
    if name.startswith(_SECRET) or "options" in name or kind in {"missing", "string_too_short", "too_short"}:
        return ""
    if kind == "frozen_set_type" and isinstance(value, str):
        return f', not one text: write ["{value[:60]}"]'
    if isinstance(value, str):
        return f', not "{value[:60]}"'
    return f", not {value}" if isinstance(value, int | float) else ""
