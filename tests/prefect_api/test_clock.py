from __future__ import annotations

from datetime import UTC, datetime, timedelta

from reconciler.model import ClockOffset
from reconciler.prefect_api.server_clock import ServerClock
from tests.fake_prefect import (
    START,
    FakePrefect,
    connect,
)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def test_the_clock_before_any_answer() -> None:
    clock = ServerClock().offset
    assert clock.offset == timedelta(0)
    assert clock.uncertainty == timedelta(seconds=5)


def test_the_clock_narrows_with_answers_at_different_fractions() -> None:
    ahead, clock = 10.3, ServerClock()
    widths = []
    for sent in (0.0, 1.5, 2.9, 4.1):
        clock.observe(at(int(sent + 0.02 + ahead)), at(sent), at(sent + 0.04))
        seen = clock.offset
        assert abs(seen.offset.total_seconds() - ahead) <= seen.uncertainty.total_seconds()
        widths.append(seen.uncertainty)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < widths[0]


def test_a_clock_that_was_set_starts_anew() -> None:
    clock = ServerClock()
    clock.observe(at(0), at(0), at(0.1))
    clock.observe(at(3601), at(1), at(1.1))
    assert abs(clock.offset.offset - timedelta(hours=1)) <= clock.offset.uncertainty
    assert clock.offset.uncertainty < timedelta(seconds=2)


def test_a_running_row_tells_the_time_exactly() -> None:
    clock = ServerClock()
    clock.observe(at(0), at(0), at(0.1))
    clock.narrow(at(0.77), at(0.0), at(0.1))
    assert clock.offset == ClockOffset(timedelta(seconds=0.72), timedelta(seconds=0.05))


def test_a_row_that_contradicts_the_headers_is_not_believed() -> None:
    clock = ServerClock()
    clock.narrow(at(9), at(0), at(0.1))
    assert clock.offset.uncertainty == timedelta(seconds=5)
    clock.observe(at(0), at(0), at(0.1))
    before = clock.offset
    clock.narrow(at(9), at(0), at(0.1))
    assert clock.offset == before


def test_cached_and_unreadable_dates_say_nothing() -> None:
    clock = ServerClock()
    clock.observe_header({"Date": "yesterday"}, at(0), at(1))
    clock.observe_header({}, at(0), at(1))
    clock.observe_header({"Date": "Sun, 01 Mar 2026 12:00:00 GMT", "Age": "30"}, at(0), at(1))
    assert clock.offset.uncertainty == timedelta(seconds=5)


def test_answers_feed_the_clock(server: FakePrefect) -> None:
    server.now = lambda: datetime.now(UTC) + timedelta(minutes=7)
    api = connect(server)
    api.in_flight()
    assert abs(api.clock.offset - timedelta(minutes=7)) <= api.clock.uncertainty + timedelta(seconds=1)
    assert api.clock.uncertainty < timedelta(seconds=3)
