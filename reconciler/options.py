"""Reads the `options` of a scope and asks for its SDK, so that every adapter refuses the same in the same words."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from reconciler.ports import Misconfigured


@dataclass(frozen=True, slots=True)
class Options:
    """What was given, checked; what was not given is missing."""

    texts: Mapping[str, str]
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@contextmanager
def needed_sdk(scope: str, adapter: str, *, extra: str) -> Iterator[None]:
    """Import the adapter's SDK within. Raises Misconfigured, with what to install, if it is not there."""
    try:
        yield
    except ImportError as error:
        remedy = f"pip install 'prefect-reconciler[{extra}]'"
        raise Misconfigured(f"scope '{scope}': adapter '{adapter}' needs its SDK: {remedy}") from error


def read_options(
    scope: str, adapter: str, options: Mapping[str, object], *, texts: Collection[str], lists: Collection[str] = ()
) -> Options:
    """Check the options of one scope: `texts` and `lists` are the names of those that the adapter has.

    A text must not be empty; a list must hold texts, at least one, none of them empty. Raises Misconfigured for the
    first that is wrong, and for an unknown one, naming the nearest.
    """
    known = [*texts, *lists]
    found, found_lists = dict[str, str](), dict[str, tuple[str, ...]]()
    for key, value in options.items():
        if key in texts:
            found[key] = _text(scope, key, value)
        elif key in lists:
            found_lists[key] = _list(scope, key, value)
        else:
            nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
            hint = f"; the nearest is '{nearest[0]}'" if nearest else ""
            raise Misconfigured(f"scope '{scope}': adapter '{adapter}' has no option '{key}'{hint}")
    return Options(found, found_lists)


def _text(scope: str, key: str, value: object) -> str:
    if isinstance(value, str) and value:
        return value
    raise Misconfigured(f"scope '{scope}': option '{key}' must be a text that is not empty, not {_shown(value)}")


def _list(scope: str, key: str, value: object) -> tuple[str, ...]:
    items = value if isinstance(value, list | tuple) else ()
    texts = tuple(item for item in items if isinstance(item, str) and item)
    if texts and len(texts) == len(items):
        return texts
    raise Misconfigured(
        f"scope '{scope}': option '{key}' must be a list of texts that are not empty, such as [\"a\", \"b\"], "
        f"not {_shown(value)}"
    )


def _shown(value: object) -> str:
    """Tables are named only: what stands in them may be a secret."""
    return "a table" if isinstance(value, Mapping) else repr(value)
