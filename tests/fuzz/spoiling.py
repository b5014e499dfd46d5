"""Takes a true answer and spoils it: types, keys, depth, numbers, times, identities, encodings."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

DEEP = "DEEP"  # stands for a list within a list within a list: no encoder of Python's writes it
STEERING = "\x1b]0;owned\x07\x1b[2J\x1b[31m\r\n\u202e\u2066\x00\x9b31m"
HTML = "</style><script>alert(1)</script><img src=x onerror=alert(1)>\"'&{{7*7}}{% raw %}"
STRINGS = st.one_of(
    st.sampled_from(
        [
            "",
            "\0",
            STEERING,
            HTML,
            "\ud800",
            "x" * 3000,
            "0001-01-01T00:00:00Z",
            "0001-01-01T00:00:00+23:59",
            "9999-12-31T23:59:59.999999Z",
            "9999-12-31T23:59:59-23:59",
            "2024-01-01T00:00:00",
            "1969-12-31T23:59:59Z",
            "2024-02-30T25:61:61Z",
            "00000000-0000-0000-0000-000000000000",
            "urn:uuid:{12345678-1234-5678-1234-567812345678}",
            "12345678-1234-5678-1234-567812345678\n",
            "../../etc/passwd",
            "http://user:secret@[::1",
            "\u0661\u0662\u0663",
            "AwaitingRetry",
            "RUNNING",
            "CRASHED",
        ]
    ),
    st.text(max_size=30),
)
NUMBERS = st.one_of(
    st.sampled_from([0, -1, 1, 2**31, 2**53, 2**63, -(2**63) - 1, 10**30, 10**400, 1e308, -1e308, 1e-320, 0.5]),
    st.sampled_from([float("nan"), float("inf"), float("-inf")]),
    st.integers(),
    st.floats(),
)
VALUES = st.one_of(st.none(), st.booleans(), STRINGS, NUMBERS, st.sampled_from([[], {}, [None], {"": None}, DEEP]))


def _paths(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _paths(inner, (*path, key))


def _change(draw: st.DrawFn, holder: Any, key: Any, other: object) -> None:
    match draw(st.sampled_from(["replace", "replace", "replace", "remove", "wrap", "double", "swap"])):
        case "replace":
            holder[key] = draw(VALUES)
        case "remove":
            del holder[key]
        case "wrap":
            holder[key] = draw(st.sampled_from([[holder[key]], {"value": holder[key]}, str(holder[key])]))
        case "double":
            holder[key] = [holder[key], holder[key]] if isinstance(holder, dict) else holder[key]
        case "swap":
            holder[key] = copy.deepcopy(other)


@st.composite
def spoiled(draw: st.DrawFn, true: object) -> object:
    """The value with one to three changes somewhere within."""
    box: list[object] = [copy.deepcopy(true)]
    for _ in range(draw(st.integers(1, 3))):
        *path, key = draw(st.sampled_from([(0, *path) for path in _paths(box[0])])) if box else (0,)
        holder: Any = box
        for step in path:
            holder = holder[step]
        other = draw(st.sampled_from(list(_leaves(box[0]))))
        _change(draw, holder, key, other)
        box = box or [draw(VALUES)]
    return box[0]


def _leaves(value: object) -> Iterator[object]:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    yield value
    for inner in items:
        yield from _leaves(inner)


def encoded(value: object) -> bytes:
    """As JSON, with what JSON has no form for as most encoders write it."""
    return json.dumps(value).encode().replace(b'"DEEP"', b"[" * 3000 + b"]" * 3000)


@st.composite
def bodies(draw: st.DrawFn, true: object) -> bytes:
    """The bytes of a spoiled answer: now and then no JSON at all, or cut off, or not UTF-8."""
    text = encoded(draw(spoiled(true)))
    match draw(st.sampled_from(["whole"] * 8 + ["cut", "bytes", "noise", "empty"])):
        case "cut":
            return text[: draw(st.integers(0, len(text)))]
        case "bytes":
            where = draw(st.integers(0, len(text)))
            return text[:where] + b"\xff\xc0\x80" + text[where:]
        case "noise":
            return draw(st.binary(max_size=60))
        case "empty":
            return b""
    return text
