"""Reads a query to its end and says what may be missing."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from reconciler.prefect_api.pages import Item, Place, Skipped, Unread
from reconciler.prefect_api.payloads import RunRow
from reconciler.prefect_api.queries import Query
from reconciler.prefect_api.reading import PageReader
from reconciler.prefect_api.transport import Transport

_MARGIN = 1000  # rows beyond the expected ones before a list is given up
_IDLE = 5  # full pages without a row that is new
_MOST = 10_000_000  # rows that any server may count


@dataclass(slots=True)
class Harvest:
    """What one or more listings brought."""

    rows: dict[UUID, RunRow] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)  # why a row could not be read, by id or place
    outside: set[UUID] = field(default_factory=set)
    skipped: int = 0  # rows that were stepped over together, at most

    @property
    def size(self) -> int:
        return len(self.rows) + len(self.unread) + self.skipped

    def take(self, item: Item, query: Query) -> None:
        if isinstance(item, Unread):
            self.unread[item.key] = item.problem
        elif isinstance(item, Skipped):
            self.skipped += 1
        elif query.admits(item):
            self.rows[item.id] = item
        else:
            self.outside.add(item.id)

    def merge(self, later: Harvest) -> None:
        self.rows |= later.rows
        self.unread |= later.unread
        self.outside |= later.outside
        self.skipped += later.skipped


class Lister:
    """Reads queries to their end. One per process: its reader remembers the largest page allowed."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._reader = PageReader(transport)

    @property
    def limit(self) -> int:
        """The most rows that the server gives at once, as far as is known."""
        return self._reader.limit

    def begin_pass(self) -> None:
        self._reader.begin_pass()

    def read(self, query: Query, into: Harvest) -> list[str]:
        """Add what the query yields to `into`; return sentences about what may be missing.

        The server's counts before and after say how many rows there must be; with fewer, it is listed once more. The
        second count is asked for only when the first is not reached. Raises OrchestratorError when the server fails;
        what was read until then is in `into`.
        """
        count = self.count(query)
        for _ in range(2):
            found = Harvest()
            try:
                finished = self._walk(query, count, found)
            finally:
                into.merge(found)
            if found.outside or not finished:
                return [_beyond(query, found, finished=finished)]
            if found.skipped:
                return [_passed_over(query, found)]
            if found.size < count:
                before, count = count, self.count(query)
            if found.size >= count:
                return []
        counted = min(before, count)
        return [f"the list of {query.title} is incomplete: {found.size} were listed, and the server counts {counted}"]

    def count(self, query: Query) -> int:
        answer = self._transport.ask("POST", "/flow_runs/count", {"flow_runs": query.filter})
        return min(self._transport.decode(answer, int, "a number of flow runs"), _MOST)

    def _walk(self, query: Query, count: int, found: Harvest) -> bool:
        """Whether the list ended: a server that ignores the filter or the key could go on for ever."""
        self._reader.begin_list(count)
        place, received, idle = Place(query), 0, 0
        while received <= 2 * count + _MARGIN and len(found.outside) <= _MARGIN and idle < _IDLE:
            page, before = self._reader.read(place), found.size + len(found.outside)
            for item in page.items:
                found.take(item, query)
            if page.is_last:
                return True
            received += len(page.items)
            idle = 0 if found.size + len(found.outside) > before else idle + 1
            place = place.following(page)
        return False


def _passed_over(query: Query, found: Harvest) -> str:
    return (
        f"the list of {query.title} is incomplete: besides {len(found.unread)} flow runs that are named, up to "
        f"{found.skipped} were stepped over, on pages to which the server answers 500; there was no time to tell which "
        "of them cannot be read"
    )


def _beyond(query: Query, found: Harvest, *, finished: bool) -> str:
    if not found.outside:
        return f"the list of {query.title} did not end after {found.size} rows, which is more than the server counts"
    stopped = "" if finished else "; reading stopped there, so the list is incomplete"
    return (
        f"the server returned {len(found.outside)} flow runs outside the filter for {query.title}, which were "
        f"dropped, so it ignores the filter{stopped}"
    )
