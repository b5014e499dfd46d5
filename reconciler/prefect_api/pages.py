"""Where a page of flow runs begins, what it holds, and where the next one begins.

Pages go by key, the expected start time, which is set once and never changes. By offset, rows that leave the list
while it is read would hide others: of 450 running flow runs 50 were never returned (3.8.8).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from reconciler.prefect_api.payloads import RunRow
from reconciler.prefect_api.queries import Query


@dataclass(frozen=True, slots=True)
class Unread:
    """A row that exists and could not be read, and why. `key` is its id, or where it was met when that is not told."""

    key: str
    problem: str
    is_named: bool
    expected_start_time: str | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """One of a group of rows that were stepped over together; there may be fewer of them."""


Item = RunRow | Unread | Skipped


@dataclass(frozen=True, slots=True)
class Page:
    """`len(items)` rows of the `asked` ones; fewer means that the list ends here."""

    items: tuple[Item, ...]
    asked: int

    @property
    def is_last(self) -> bool:
        return len(self.items) < self.asked

    def __add__(self, later: Page) -> Page:
        return Page(self.items + later.items, self.asked + later.asked)


@dataclass(frozen=True, slots=True)
class Place:
    """A position in the list of `query`: at the key `after` (inclusive; None is the start).

    Rows already read are left out by id: those that share the key, else a tie as long as a page would never end, and
    the poisoned ones, whose key nobody knows. `offset` steps over rows of which not even the id is known.
    """

    query: Query
    after: str | None = None
    tie: frozenset[str] = frozenset()
    poisoned: frozenset[str] = frozenset()
    offset: int = 0

    def request(self, limit: int) -> dict[str, object]:
        """The body for `/flow_runs/filter`."""
        runs = dict(self.query.filter)
        if self.after:
            runs["expected_start_time"] = {"after_": self.after}
        if known := self.tie | self.poisoned:
            runs["id"] = {"not_any_": sorted(known)}
        return {"flow_runs": runs, "sort": "EXPECTED_START_TIME_ASC", "limit": limit, "offset": self.offset}

    def following(self, page: Page) -> Place:
        """The place behind the last row of `page`, which began here."""
        keys = [None if isinstance(item, Skipped) else item.expected_start_time for item in page.items]
        key = next((key for key in reversed(keys) if key), None)
        poisoned = self.poisoned | _named(
            item for item, own_key in zip(page.items, keys, strict=True) if own_key is None
        )
        if key is None or key == self.after:
            offset = self.offset + _count_nameless(page.items)
            return replace(self, tie=self.tie | _named(page.items), poisoned=poisoned, offset=offset)
        shared = page.items[keys.index(key) :]
        return Place(self.query, key, _named(shared), poisoned, _count_nameless(shared))


def _named(items: Iterable[Item]) -> frozenset[str]:
    ids = (_name(item) for item in items)
    return frozenset(name for name in ids if name is not None)


def _name(item: Item) -> str | None:
    if isinstance(item, RunRow):
        return str(item.id)
    return item.key if isinstance(item, Unread) and item.is_named else None


def _count_nameless(items: tuple[Item, ...]) -> int:
    return sum(_name(item) is None for item in items)
