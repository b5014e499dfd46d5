"""Moves what is remembered along when our clock is set, or slept: functions over the memory's database.

They raise what SQLite and broken rows raise (`rows.TROUBLE`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import datetime, timedelta

from reconciler.clock import Reading
from reconciler.rows import TROUBLE, moment_of, reading_of, text_of, time_of

_NO_TIME = timedelta(0)
# Our own times, which must follow our clock when it is set; those that wait for time awake also skip a sleep.
_OURS = {"sightings": ("first_seen", "last_seen", "live_seen", "ended_seen")}
_WAITING = {"identities": ("since",), "breakers": ("since",), "outages": ("back",)}


def jump(database: sqlite3.Connection, reading: Reading, now: datetime) -> tuple[datetime | None, bool]:
    """When our clock last jumped, and whether that, or this run of the machine, is new."""
    row = database.execute("select boot, zero, slept, jumped from clock").fetchone()
    if row is None or row[0] != reading.boot or not reading.boot:
        return None, True
    before = reading_of(row)
    if before is None:
        return now, True
    is_news = bool(reading.step_since(before) or reading.slept_since(before))
    return now if is_news else time_of(row[3]), is_news


def follow(database: sqlite3.Connection, reading: Reading, now: datetime) -> datetime | None:
    """Move our times along. Alone: of two processes that saw the same jump, the second finds it done."""
    database.execute("begin immediate")
    jumped, is_news = jump(database, reading, now)
    if is_news and jumped is not None:
        before = reading_of(database.execute("select boot, zero, slept from clock").fetchone())
        step, slept = (reading.step_since(before), reading.slept_since(before)) if before else (_NO_TIME, _NO_TIME)
        _shift(database, _OURS, step)
        _shift(database, _WAITING, step + slept)
    if is_news:
        values = (reading.boot, text_of(reading.zero), reading.slept.total_seconds(), text_of(jumped))
        database.execute("insert or replace into clock values (1, ?, ?, ?, ?)", values)
    return jumped


def _shift(database: sqlite3.Connection, columns: Mapping[str, tuple[str, ...]], by: timedelta) -> None:
    def shifted(text: str) -> str | None:
        try:
            return text_of(moment_of(text) + by)
        except TROUBLE:  # it is no time; whoever reads it will say so
            return text

    database.create_function("shifted", 1, shifted)
    for table, names in columns.items():
        for name in names if by else ():
            database.execute(f"update {table} set {name} = shifted({name}) where {name} is not null")  # noqa: S608
