"""What the `Date` headers tell about the server's clock."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from reconciler.model import ClockOffset

# `Date` has whole seconds, and uvicorn renews it only once a second: seen 0 to 1.7 s behind on Prefect 3.8.8 under
# no load. The rest is for a busy event loop.
_DATE_IS_BEHIND = timedelta(seconds=2.5)
_CENTURY = timedelta(days=36525)  # a clock that is off by more would take other times out of all bounds
_UNASKED = ClockOffset(timedelta(0), timedelta(seconds=5))


class ServerClock:
    """The server's clock minus ours, by intersecting what each response allows.

    A response with `Date` d that we waited for from `sent` to `received` (our clock) says that the server's clock stood
    in [d, d + 2.5 s) at some moment between the two. Answers that contradict the earlier ones (a clock was set, or
    drifted) start it anew.
    """

    def __init__(self) -> None:
        self._bounds: tuple[timedelta, timedelta] | None = None

    def observe(self, date: datetime, sent: datetime, received: datetime) -> None:
        if abs(date - received) > _CENTURY:  # no clock, but an answer of somebody's making
            return
        low, high = date - received, date + _DATE_IS_BEHIND - sent
        if high < low:  # our clock was set back while we waited
            return
        if self._bounds:
            old_low, old_high = self._bounds
            both = max(low, old_low), min(high, old_high)
            self._bounds = both if both[0] <= both[1] else (low, high)
        else:
            self._bounds = low, high

    def narrow(self, server_time: datetime, sent: datetime, received: datetime) -> None:
        """The server's clock stood at exactly this between `sent` and `received`. Never contradicts the headers."""
        low, high = server_time - received, server_time - sent
        if self._bounds and max(low, self._bounds[0]) <= min(high, self._bounds[1]):
            self._bounds = max(low, self._bounds[0]), min(high, self._bounds[1])

    def observe_header(self, headers: Mapping[str, str], sent: datetime, received: datetime) -> None:
        """As `observe`, if there is a `Date` that can be read and no cache answered."""
        if "Age" in headers:
            return
        if (date := parse_http_date(headers.get("Date", ""))) is not None:
            self.observe(date, sent, received)

    @property
    def offset(self) -> ClockOffset:
        if self._bounds is None:
            return _UNASKED
        low, high = self._bounds
        return ClockOffset((low + high) / 2, (high - low) / 2)


def parse_http_date(text: str) -> datetime | None:
    """An HTTP date, aware; None if it is none."""
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError, IndexError):  # it meets the one or the other, by what is wrong
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that a `Retry-After` (seconds or HTTP date) asks for, never negative; `now` serves without a `Date`."""
    text = headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    if (until := parse_http_date(text)) is None:
        return None
    return max((until - (parse_http_date(headers.get("Date", "")) or now)).total_seconds(), 0.0)
