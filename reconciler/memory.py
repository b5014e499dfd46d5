"""What is remembered between passes: sightings, learned identities, tripped breakers, outages. Bounded, in `state_dir`.

Everything here may be lost: an empty memory makes a verdict slower, never wrong. The daemon and the one-shot command
share one SQLite file, so that neither undoes the other's notes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from reconciler.clock import Reading
from reconciler.model import RunId, Sighting
from reconciler.rows import TROUBLE, moment_of, row_of, sighting_of, text_of, time_of
from reconciler.state_database import StateDatabase
from reconciler.timekeeping import follow, jump

_KEPT_UNSEEN = timedelta(days=1)
_KEPT_ROWS = 200_000
_CHUNK = 500  # SQLite's bound on variables is 999 in old builds
_VERSION, _READABLE, _WITHOUT_MAPPED = 3, (2, 3), 2
_DROP = "".join(
    f"drop table if exists {table};" for table in ("sightings", "identities", "breakers", "outages", "clock")
)
_SCHEMA = """
create table if not exists sightings (
  scope text not null, identity text not null, run_id text not null, resource_id text not null, title text not null,
  key text not null, created_at text, created_within real not null, node text,
  is_whole integer not null,
  first_seen text not null, last_seen text not null, live_seen text, ended_seen text, reason text not null,
  was_mapped integer not null default 0,
  primary key (run_id, scope, identity, resource_id)
);
create index if not exists sightings_by_age on sightings (last_seen);
create table if not exists identities (
  scope text primary key, identity text not null, since text not null, former text
);
create table if not exists breakers (scope text primary key, since text not null);
create table if not exists outages (scope text primary key, back text);
create table if not exists clock (
  id integer primary key check (id = 1), boot text not null, zero text not null, slept real not null, jumped text
);
pragma user_version = 3;
"""
_NOTE = """
insert into sightings values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
on conflict do update set
  last_seen = excluded.last_seen, title = excluded.title, reason = excluded.reason,
  node = coalesce(excluded.node, node),
  created_at = case when excluded.created_within < created_within then excluded.created_at else created_at end,
  created_within = min(created_within, excluded.created_within),
  live_seen = coalesce(excluded.live_seen, live_seen), was_mapped = max(was_mapped, excluded.was_mapped),
  ended_seen = case when excluded.ended_seen is null then null else coalesce(ended_seen, excluded.ended_seen) end
"""


@dataclass(frozen=True, slots=True)
class Known:
    """A scope's identity, since when it is the known one, and what it was before (None: that was the first contact)."""

    identity: str
    since: datetime
    former: str | None = None


class Memory(StateDatabase):
    """Never raises: what cannot be read or kept becomes one of `problems`, and the pass goes on without it."""

    def __init__(self, path: Path | None = None) -> None:
        super().__init__(path, _prepare, title="memory", loss="which may delay verdicts")
        self._back: dict[str, datetime | None] = {}  # since when scopes that were away answer again; None: away

    def keep_time(self, reading: Reading, now: datetime) -> datetime | None:
        """Begin a pass: move what is remembered if our clock was set or slept since the last, and say when that was.

        `now` and the answer are ours, after the jump. None: no jump is known of in this run of the machine.
        """
        self.begin()
        jumped: datetime | None = now  # what cannot be read says nothing of how our clock was before
        with self.trying("keep the time"):
            self._database.execute("pragma query_only = 0")
            try:
                jumped, is_news = jump(self._database, reading, now)  # known also when it cannot be written
                if is_news:
                    with self._database:
                        jumped = follow(self._database, reading, now)
            except TROUBLE:
                self._database.execute("pragma query_only = 1")  # the next pass would move this one's times as well
                raise
        return jumped

    def recall(self, run_ids: Collection[RunId]) -> dict[RunId, list[Sighting]]:
        """Recall what any scope ever showed of these runs, under whatever identity."""
        found: dict[RunId, list[Sighting]] = {}
        asked = {str(run_id): run_id for run_id in run_ids}
        texts = list(asked)
        with self.trying("read sightings"):
            for start in range(0, len(texts), _CHUNK):
                chunk = texts[start : start + _CHUNK]
                marks = ",".join("?" * len(chunk))
                for row in self._database.execute(f"select * from sightings where run_id in ({marks})", chunk):  # noqa: S608
                    with self.trying("read a sighting"):
                        sighting = sighting_of(row, asked[row[2]])
                        found.setdefault(sighting.resource.run_id, []).append(sighting)
        return found

    def note(self, sightings: Iterable[Sighting]) -> None:
        with self.trying("keep sightings"), self._database:
            self._database.executemany(_NOTE, [row_of(sighting) for sighting in sightings])

    def forget(self, in_flight: Collection[RunId], now: datetime) -> None:
        """Drop old sightings of runs that are over."""
        kept = {str(run_id) for run_id in in_flight}
        with self.trying("tidy sightings"), self._database:
            query = "select rowid, run_id from sightings where last_seen < ?"
            old = self._database.execute(query, (text_of(now - _KEPT_UNSEEN),)).fetchall()
            over = [(rowid,) for rowid, run_id in old if run_id not in kept]
            self._database.executemany("delete from sightings where rowid = ?", over)

    def bound(self) -> None:
        """Drop the oldest sightings beyond the bound."""
        with self.trying("tidy sightings"), self._database:
            self._database.execute(
                "delete from sightings where rowid in "
                "(select rowid from sightings order by last_seen desc limit -1 offset ?)",
                (_KEPT_ROWS,),
            )

    def learn(self, scope: str, identity: str, now: datetime) -> Known:
        """Remember the identity that a scope shows now."""
        known = Known(identity, now)
        with self.trying("keep identities"), self._database:
            query = "select identity, since, former from identities where scope = ?"
            row = self._database.execute(query, (scope,)).fetchone()
            if row is not None:
                before = Known(row[0], moment_of(row[1]), row[2])
                known = before if before.identity == identity else Known(identity, now, before.identity)
            if row is None or known.since == now:
                values = (scope, known.identity, text_of(known.since), known.former)
                self._database.execute("insert or replace into identities values (?, ?, ?, ?)", values)
        return known

    def breakers(self) -> dict[str, datetime]:
        found: dict[str, datetime] = {}
        with self.trying("read breakers"):
            rows = self._database.execute("select scope, since from breakers")
            found = {scope: moment_of(since) for scope, since in rows}
        return found

    def note_breakers(self, tripped: Collection[str], now: datetime) -> None:
        """Keep since when each breaker is open; the others are closed."""
        with self.trying("keep breakers"), self._database:
            for scope in set(self.breakers()) - set(tripped):
                self._database.execute("delete from breakers where scope = ?", (scope,))
            self._database.executemany(
                "insert or ignore into breakers values (?, ?)", [(scope, text_of(now)) for scope in tripped]
            )

    def note_away(self, scope: str) -> None:
        """Keep that the scope could not be asked; by this process also if the file does not take it."""
        self._back[scope] = None
        with self.trying("keep an outage"), self._database:
            self._database.execute("insert or replace into outages values (?, null)", (scope,))

    def note_back(self, scope: str, now: datetime) -> datetime | None:
        """Keep that the scope answered, and say since when it does again; None: it was never away."""
        if scope in self._back:
            self._back[scope] = self._back[scope] or now
        with self.trying("keep an outage"), self._database:
            row = self._database.execute("select back from outages where scope = ?", (scope,)).fetchone()
            if row is not None and (known := _time_or_none(row[0])) is not None:
                self._back[scope] = max(known, self._back.get(scope) or known)
            elif row is not None:
                self._back.setdefault(scope, now)  # should it not be taken
                self._database.execute("update outages set back = ? where scope = ?", (text_of(now), scope))
                self._back[scope] = now
        return self._back.get(scope)


def _time_or_none(text: str | None) -> datetime | None:
    try:
        return time_of(text)
    except TROUBLE:  # somebody else wrote it
        return None


def _prepare(database: sqlite3.Connection) -> None:
    (version,) = database.execute("pragma user_version").fetchone()
    if version not in _READABLE:  # another version's notes may be forgotten
        database.executescript(_DROP)
    elif version == _WITHOUT_MAPPED:
        database.execute("alter table sightings add column was_mapped integer not null default 0")
    if version != _VERSION:
        database.executescript(_SCHEMA)
