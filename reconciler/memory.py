"""What is remembered between passes: sightings, learned identities, tripped breakers. Bounded, in `state_dir`.

Everything here may be lost: an empty memory makes a verdict slower, never wrong. The daemon and the one-shot command
share one SQLite file, so that neither undoes the other's notes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

from reconciler.model import Resource, RunId, Sighting

_KEPT_UNSEEN = timedelta(days=7)
_KEPT_ROWS = 200_000
_SCHEMA = """
create table if not exists sightings (
  scope text, identity text, run_id text, resource_id text, title text, created_at text, node text,
  first_seen text, last_seen text, live_seen text, ended_seen text, reason text,
  primary key (run_id, scope, identity, resource_id)
);
create table if not exists identities (scope text primary key, identity text, changed_at text, former text);
create table if not exists breakers (scope text primary key, since text);
"""
_NOTE = """
insert into sightings values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
on conflict do update set
  last_seen = excluded.last_seen, title = excluded.title, reason = excluded.reason,
  live_seen = coalesce(excluded.live_seen, live_seen),
  ended_seen = case when excluded.ended_seen is null then null else coalesce(ended_seen, excluded.ended_seen) end
"""


@dataclass(frozen=True, slots=True)
class Known:
    """A scope's identity, and since when it is another than before (None: as far as is remembered, always)."""

    identity: str
    changed_at: datetime | None = None
    former: str | None = None


class Memory:
    """Never raises: what cannot be read or kept becomes one of `problems`, and the pass goes on without it."""

    def __init__(self, path: Path | None = None) -> None:
        self.problems: list[str] = []
        self._path = path
        self._database = self._open()

    def close(self) -> None:
        self._database.close()

    def sightings(self, identities: Mapping[str, str]) -> dict[RunId, list[Sighting]]:
        """Recall what each scope showed under its present identity."""
        found: dict[RunId, list[Sighting]] = {}
        with self._trying("read sightings"):
            for scope, identity in identities.items():
                query = "select * from sightings where scope = ? and identity = ?"
                for row in self._database.execute(query, (scope, identity)):
                    sighting = _sighting(row)
                    found.setdefault(sighting.resource.run_id, []).append(sighting)
        return found

    def sighted_runs(self, scope: str) -> set[RunId]:
        """Recall which runs a scope ever showed, under whatever identity."""
        found: set[RunId] = set()
        with self._trying("read sightings"):
            rows = self._database.execute("select distinct run_id from sightings where scope = ?", (scope,))
            found = {UUID(run_id) for (run_id,) in rows}
        return found

    def note(self, sightings: Iterable[Sighting]) -> None:
        with self._trying("keep sightings"), self._database:
            self._database.executemany(_NOTE, [_row(sighting) for sighting in sightings])

    def forget(self, in_flight: Collection[RunId], now: datetime) -> None:
        """Drop what is no longer of use: old sightings of runs that are over, and all beyond the bound."""
        with self._trying("tidy sightings"), self._database:
            old = self._database.execute(
                "select rowid, run_id from sightings where last_seen < ?", (_text(now - _KEPT_UNSEEN),)
            )
            over = [(rowid,) for rowid, run_id in old if UUID(run_id) not in in_flight]
            self._database.executemany("delete from sightings where rowid = ?", over)
            self._database.execute(
                "delete from sightings where rowid in "
                "(select rowid from sightings order by last_seen desc limit -1 offset ?)",
                (_KEPT_ROWS,),
            )

    def learn(self, scope: str, identity: str, now: datetime) -> Known:
        """Remember the identity that a scope shows now."""
        known = Known(identity)
        with self._trying("keep identities"), self._database:
            query = "select identity, changed_at, former from identities where scope = ?"
            row = self._database.execute(query, (scope,)).fetchone()
            if row is not None:
                before = Known(row[0], _time(row[1]), row[2])
                known = before if before.identity == identity else Known(identity, now, before.identity)
            self._database.execute(
                "insert or replace into identities values (?, ?, ?, ?)",
                (scope, known.identity, _text(known.changed_at), known.former),
            )
        return known

    def breakers(self) -> dict[str, datetime]:
        found: dict[str, datetime] = {}
        with self._trying("read breakers"):
            rows = self._database.execute("select scope, since from breakers")
            found = {scope: datetime.fromisoformat(since) for scope, since in rows}
        return found

    def note_breakers(self, tripped: Collection[str], now: datetime) -> None:
        """Keep since when each breaker is open; the others are closed."""
        with self._trying("keep breakers"), self._database:
            for scope in set(self.breakers()) - set(tripped):
                self._database.execute("delete from breakers where scope = ?", (scope,))
            self._database.executemany(
                "insert or ignore into breakers values (?, ?)", [(scope, _text(now)) for scope in tripped]
            )

    def _open(self) -> sqlite3.Connection:
        database = None
        with self._trying("open the memory"):
            if self._path is not None:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                database = _connect(self._path)
        return database or _connect(None)

    @contextmanager
    def _trying(self, what: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, ValueError) as error:
            where = self._path or "the state"
            self.problems.append(f"could not {what} in {where} ({error}): going on without, which may delay verdicts")


def _connect(path: Path | None) -> sqlite3.Connection:
    database = sqlite3.connect(path or ":memory:", timeout=5.0, check_same_thread=False)
    database.executescript(_SCHEMA)
    return database


def _row(sighting: Sighting) -> tuple[str | None, ...]:
    resource = sighting.resource
    return (
        *(sighting.scope, sighting.identity, str(resource.run_id), resource.id, resource.title),
        *(_text(resource.created_at), resource.node, _text(sighting.first_seen), _text(sighting.last_seen)),
        *(_text(sighting.live_seen), _text(sighting.ended_seen), sighting.reason),
    )


def _sighting(row: tuple[str, ...]) -> Sighting:
    scope, identity, run_id, resource_id, title, created_at, node, first, last, live, ended, reason = row
    resource = Resource(id=resource_id, title=title, run_id=UUID(run_id), created_at=_time(created_at), node=node)
    return Sighting(
        scope=scope,
        identity=identity,
        resource=resource,
        first_seen=datetime.fromisoformat(first),
        last_seen=datetime.fromisoformat(last),
        live_seen=_time(live),
        ended_seen=_time(ended),
        reason=reason,
    )


def _text(time: datetime | None) -> str | None:
    """Every time is written in UTC with microseconds, so that text order is time order."""
    return None if time is None else time.isoformat(timespec="microseconds")


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
