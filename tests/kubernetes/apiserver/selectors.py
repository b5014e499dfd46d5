"""Label and field selectors, read and refused as the Go code of apimachinery does (texts seen on 1.20.2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Match = Callable[[Mapping[str, str]], bool]

SYMBOLS = re.compile(r"\s*(==|!=|[=!(),><]|[^\s=!(),><]+|$)")
WORD = re.compile(r"[^=!(),><]+")
NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
NAME_RULE = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
    "(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)


class BadSelector(ValueError):
    """400; the text is the server's."""


@dataclass(frozen=True)
class Selector:
    """All requirements must hold; none at all selects everything."""

    requirements: tuple[Match, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.requirements)

    def matches(self, values: Mapping[str, str]) -> bool:
        return all(holds(values) for holds in self.requirements)


def label_selector(text: str) -> Selector:
    """`a=b,c in (d,e),f notin (g),h,!i,j!=k,l>1`. Raises BadSelector."""
    return Selector(tuple(_Labels(text).read()))


class _Labels:
    def __init__(self, text: str) -> None:
        self._tokens = [found.group(1) for found in SYMBOLS.finditer(text)]
        self._at = 0

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        self._at += 1
        return token

    def read(self) -> list[Match]:
        found: list[Match] = []
        while token := self._peek():
            if token != "!" and not self._is_key(token):
                raise BadSelector(f"found '{token}', expected: !, identifier, or 'end of string'")
            found.append(self._requirement())
            end = self._next()
            if not end:
                break
            if end != ",":
                raise BadSelector(f"found '{end}', expected: ',' or 'end of string'")
            if self._peek() != "!" and not self._is_key(self._peek()):
                raise BadSelector(f"found '{self._peek()}', expected: identifier after ','")
        return found

    @staticmethod
    def _is_key(token: str) -> bool:
        return bool(WORD.fullmatch(token)) and token not in {"in", "notin"}

    def _requirement(self) -> Match:
        try:
            if self._peek() == "!":
                self._next()
                absent = self._key()
                return lambda labels: absent not in labels
            key = self._key()
            if self._peek() in {"", ","}:
                return lambda labels: key in labels
            return self._compared(key)
        except BadSelector as problem:
            raise BadSelector(f"unable to parse requirement: {problem}") from None

    def _key(self) -> str:
        key = self._next()
        if not self._is_key(key):
            raise BadSelector(f"found '{key}', expected: identifier")
        name = key.rpartition("/")[2]
        if not NAME.fullmatch(name):
            raise BadSelector(f'invalid label key "{key}": name part {NAME_RULE}')
        return key

    def _compared(self, key: str) -> Match:
        operator = self._next()
        if operator in {"in", "notin"}:
            values = self._set()
            for value in values:
                _check_value(value, key)
            if operator == "in":
                return lambda labels: labels.get(key) in values
            return lambda labels: labels.get(key) not in values
        if operator not in {"=", "==", "!=", ">", "<"}:
            raise BadSelector(f"found '{operator}', expected: '=', '!=', '==', 'in', notin'")
        value = "" if self._peek() in {"", ","} else self._value()
        _check_value(value, key)
        return _one(key, operator, value)

    def _value(self) -> str:
        value = self._next()
        if not WORD.fullmatch(value):
            raise BadSelector(f"found '{value}', expected: identifier")
        return value

    def _set(self) -> frozenset[str]:
        if (opening := self._next()) != "(":
            raise BadSelector(f"found '{opening}' expected: '('")
        values: set[str] = set()
        value = ""
        while (token := self._next()) != ")":
            if token == ",":
                values.add(value)
                value = ""
            elif WORD.fullmatch(token) and not value:
                value = token
            else:
                wanted = "',' or ')'" if value else "',', or identifier"
                raise BadSelector(f"found '{token}', expected: {wanted}")
        values.add(value)
        return frozenset(values)


def _one(key: str, operator: str, value: str) -> Match:
    if operator == "!=":
        return lambda labels: labels.get(key) != value
    if operator in {"=", "=="}:
        return lambda labels: labels.get(key) == value
    if not value.lstrip("-").isdigit():
        raise BadSelector(f"values[0][{key}]: for 'Gt', 'Lt' operators, the value must be an integer")
    bound = int(value)
    sign = 1 if operator == ">" else -1

    def compared(labels: Mapping[str, str]) -> bool:
        text = labels.get(key, "")
        return text.lstrip("-").isdigit() and sign * int(text) > sign * bound

    return compared


def _check_value(value: str, key: str) -> None:
    if value and (len(value) > 63 or not NAME.fullmatch(value)):
        raise BadSelector(f'values[0][{key}]: Invalid value: "{value}": a valid label {NAME_RULE}')


def field_terms(text: str) -> list[tuple[str, str, str]]:
    """`a=b,c!=d` as (field, "=" or "!=", value). Raises BadSelector."""
    terms = []
    for term in filter(None, text.split(",")):
        found = re.match(r"(.*?)(!=|==|=)(.*)", term)
        if found is None:
            raise BadSelector(f"invalid selector: '{text}'; can't understand '{term}'")
        field, operator, value = found.groups()
        terms.append((field, "!=" if operator == "!=" else "=", value))
    return terms


def field_selector(terms: list[tuple[str, str, str]]) -> Selector:
    """Over the fields of an entry, all of which are set (missing is "")."""
    return Selector(tuple(_one(*term) for term in terms))
