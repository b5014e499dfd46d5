"""Reads one page of flow runs, also one that holds a row which the server cannot serialise.

Such a row (its labels hold null or nested values; 3.4.25, 3.8.8) makes every page that holds it answer 500. It is
found by halving the page, and named with the help of the one route that lists ids alone. A page that is longer than any
answer may be is halved likewise.

One tenant must not blind us for the others, so the search goes on for hundreds of such rows. It ends when it has taken
its share of the pass: from then on a page that fails is stepped over as a whole, and the listing is not whole.
"""

from __future__ import annotations

import math
import re
from uuid import UUID

import httpx
import msgspec

from reconciler.ports import OrchestratorError
from reconciler.prefect_api.pages import Page, Place, Skipped, Unread
from reconciler.prefect_api.payloads import RowEdge, RunRow
from reconciler.prefect_api.refusals import TooLarge
from reconciler.prefect_api.transport import Answer, Transport
from reconciler.words import legible, one_line

_LARGEST = 200  # what a server allows unless its operator lowered it
_MOST_POISONED = 500  # in one pass: some 2000 calls if no two of them are neighbours
_SHARE = 0.25  # of the time of a pass, for looking for them
_DOUBTFUL = 20  # so many, and no row that can be read: is it the server?
_PROBES = 8
_LIMIT_ALLOWED = re.compile(r"less than or equal to (\d+)")
_ANY_ERROR = range(300, 600)


_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class TooManyPoisoned(OrchestratorError):
    """No row at all can be read, so the server itself is the better explanation."""


class PageReader:
    """Reads pages in the order of the list. Remembers the largest page that the server allows."""

    def __init__(self, transport: Transport) -> None:
        self.limit = _LARGEST
        self._transport = transport
        self._row = msgspec.json.Decoder(RunRow)
        self._poisoned: set[str] = set()
        self._until = math.inf  # of the transport's clock; then no poisoned row is looked for
        self._has_read = False  # a row of this pass
        self._previous: UUID | None = None
        self._poisoned_since = 0
        self._count = 0

    def begin_pass(self) -> None:
        """The bounds on the search for poisoned rows start again."""
        now = self._transport.monotonic()
        self._poisoned.clear()
        self._until, self._has_read = now + (self._transport.deadline - now) * _SHARE, False

    def begin_list(self, count: int) -> None:
        """No row precedes the next one; the server counts `count` of them."""
        self._previous, self._poisoned_since, self._count = None, 0, count

    def read(self, place: Place, limit: int | None = None) -> Page:
        """The page of at most `limit` rows at `place`. Raises OrchestratorError; also if none can be read."""
        asked = limit or self.limit
        try:
            answer, asked = self._ask(place, asked)
        except TooLarge as error:
            return self._by_halves(place, asked, str(error))
        if answer.status == httpx.codes.INTERNAL_SERVER_ERROR:
            return self._by_halves(place, asked, None)
        rows = self._transport.decode(answer, list[msgspec.Raw], "a list of flow runs")
        page = Page(tuple(self._decoded(raw) for raw in rows), asked)
        self._has_read |= bool(rows)
        self._read_clock(page, answer)
        return page

    def _by_halves(self, place: Place, asked: int, too_large: str | None) -> Page:
        if asked == 1:
            return Page((self._poisoned_row(place, too_large),), asked)
        if len(self._poisoned) >= _MOST_POISONED or self._transport.monotonic() > self._until:
            return Page((Skipped(),) * asked, asked)
        first = self.read(place, asked // 2)
        return first if first.is_last else first + self.read(place.following(first), asked - asked // 2)

    def _read_clock(self, page: Page, answer: Answer) -> None:
        """One row is enough: all are written within a moment."""
        times = (item.server_time for item in page.items if isinstance(item, RunRow))
        server_time = next((time for time in times if time is not None), None)
        if server_time is not None:
            self._transport.server_clock.narrow(server_time, answer.asked_at, answer.answered_at)

    def _ask(self, place: Place, limit: int) -> tuple[Answer, int]:
        while True:
            answer = self._transport.ask("POST", "/flow_runs/filter", place.request(limit), accept={422, 500})
            if answer.status != httpx.codes.UNPROCESSABLE_ENTITY:
                return answer, limit
            allowed = _LIMIT_ALLOWED.search(answer.reason)
            if allowed is None or not 0 < int(allowed[1]) < limit:
                said = f": {answer.reason}" if answer.reason else ""
                raise OrchestratorError(
                    f"the Prefect API at {self._transport.settings.address} does not understand the filter for "
                    f"{place.query.title} (422){said}"
                )
            self.limit = limit = int(allowed[1])

    def _decoded(self, raw: msgspec.Raw) -> RunRow | Unread:
        try:
            row = self._row.decode(raw)
        except _UNREADABLE as error:
            return self._unfit(raw, error)
        self._previous, self._poisoned_since = row.id, 0
        return row

    def _unfit(self, raw: msgspec.Raw, error: Exception) -> Unread:
        try:
            edge = msgspec.json.decode(raw, type=RowEdge)
        except _UNREADABLE:
            edge = RowEdge()
        who = f"flow run {edge.id}" if edge.id else "a flow run without a readable id"
        problem = f"{who} was skipped, since its data are not understood: {legible(one_line(error))}"
        return Unread(str(edge.id or self._place_name()), problem, edge.id is not None, edge.expected_start_time)

    def _poisoned_row(self, place: Place, too_large: str | None) -> Unread:
        known = self._name(place)
        key = str(known or self._place_name())
        self._poisoned.add(key)
        if len(self._poisoned) == _DOUBTFUL and not (self._has_read or self._is_any_readable(place)):
            raise TooManyPoisoned(
                f"the Prefect API at {self._transport.settings.address} fails with status 500 for every flow run that "
                "was tried: see the server's log"
            )
        return Unread(key, self._sentence(place, known, too_large), known is not None)

    def _is_any_readable(self, place: Place) -> bool:
        """Try single rows all over the list: one tenant's runs may be the first ones."""
        offsets = {self._count * part // _PROBES for part in range(1, _PROBES)} | {self._count - 1}
        return any(
            self._ask(Place(place.query, offset=offset), 1)[0].status == httpx.codes.OK
            for offset in sorted(offsets, reverse=True)
            if offset >= 0
        )

    def _place_name(self) -> str:
        self._poisoned_since += 1
        return f"{self._previous} + {self._poisoned_since}"

    def _name(self, place: Place) -> UUID | None:
        """The id of the row at `place`, if the server tells, and fails for this very run too."""
        answer = self._transport.ask("POST", "/ui/flow_runs/history", place.request(1), accept=_ANY_ERROR)
        try:
            row_id = msgspec.json.decode(answer.body, type=list[RowEdge])[0].id
            shown = self._transport.ask("GET", f"/flow_runs/{row_id}", accept=_ANY_ERROR)
        except (*_UNREADABLE, IndexError):
            return None
        except TooLarge:
            return row_id
        return row_id if shown.status == httpx.codes.INTERNAL_SERVER_ERROR else None

    def _sentence(self, place: Place, known: UUID | None, too_large: str | None) -> str:
        since = f" with an expected start at or after {place.after}" if place.after else ""
        where = f"right after flow run {self._previous}" if self._previous else "first of all"
        who = f"flow run {known}" if known else f"a flow run{since}, listed {where},"
        if too_large:
            return f"{who} cannot be read: {too_large} to a request for it alone"
        return (
            f"{who} cannot be read, since the server answers 500 to every page that holds it; its labels probably "
            "hold null or nested values: replace those by texts, numbers or booleans with "
            f"PATCH /flow_runs/{known or '<id>'}/labels"
        )
