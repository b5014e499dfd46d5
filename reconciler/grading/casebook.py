"""`grades.sqlite3` in `state_dir`: settlements and would-be settlements with their grades, and who is trusted.

It may be lost: then no case is watched any more and every scope is trusted. The daemon and the one-shot command share
it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from reconciler.grading.cases import DISTRUST_COUNT, WATCHED_FOR, Case, Grade, Key, Kind
from reconciler.grading.rows import COLUMNS, case_of, row_of
from reconciler.rows import moment_of, text_of, time_of
from reconciler.state_database import StateDatabase

GRADES_FILE = "grades.sqlite3"
_KEPT_CLOSED = timedelta(days=30)
_KEPT_CASES = 10_000
_VERSION = 1
_SCHEMA = f"""
drop table if exists cases;
drop table if exists scopes;
create table cases ({", ".join(COLUMNS)}, primary key (run_id, state_id, kind));
create index cases_watched on cases (closed_at);
create table scopes (scope text primary key, false_crashes integer not null default 0, distrusted text, trusted text);
pragma user_version = {_VERSION};
"""
_MARKS = ", ".join("?" * len(COLUMNS))
_CHANGE = (
    f"update cases set {', '.join(f'{name} = ?' for name in COLUMNS[3:])} "  # noqa: S608
    "where run_id = ? and state_id = ? and kind = ? and closed_at is null"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeRecord:
    """What is known of a scope's trust. Times are ours."""

    scope: str
    false_crashes: int = 0  # ever, since the file was made
    distrusted_since: datetime | None = None
    trusted_at: datetime | None = None  # when a person said so last; false crashes found before count no more


class Casebook(StateDatabase):
    """Never raises: what cannot be read or kept becomes one of `problems`, and the pass goes on without it."""

    def __init__(self, path: Path | None = None, *, most: int = _KEPT_CASES) -> None:
        """`most`: so many cases are kept, those that were closed first going first."""
        super().__init__(path, _prepare, title="grades", loss="verdicts may stay ungraded")
        self._most = most
        self._scopes: dict[str, ScopeRecord] = {}  # as last read: a locked file must not make a scope trusted

    def watched(self) -> list[Case]:
        """Every case that is not closed, the oldest first."""
        return self._read("where closed_at is null order by judged_at, run_id")

    def cases(self) -> list[Case]:
        """Every case, the newest first."""
        return self._read("order by judged_at desc, run_id")

    def counts(self) -> tuple[dict[Grade, int], int]:
        """How many would-be settlements have each grade, and how many cases are watched."""
        counts, watched = dict[Grade, int](), 0
        with self.trying("count grades"):
            query = "select grade, count(*) from cases where kind = ? group by grade"
            counts = {Grade(grade): number for grade, number in self._database.execute(query, (str(Kind.SHADOW),))}
            (watched,) = self._database.execute("select count(*) from cases where closed_at is null").fetchone()
        return counts, watched

    def add(self, cases: Collection[Case]) -> list[Case]:
        """Keep new cases, and give those that were; one that is known is left as it is."""
        added = list[Case]()
        with self.trying("keep cases"), self._database:
            for case in cases:
                row = self._database.execute(f"insert or ignore into cases values ({_MARKS})", row_of(case))  # noqa: S608
                added += [case] if row.rowcount == 1 else []
        return added

    def change(self, cases: Iterable[Case], now: datetime) -> set[Key]:
        """Keep what became of watched cases, and count false crashes. Gives those that another process had closed."""
        lost = set[Key]()
        with self.trying("keep grades"), self._database:
            for case in cases:
                row = row_of(case)
                if self._database.execute(_CHANGE, (*row[3:], *row[:3])).rowcount != 1:
                    lost.add(case.key)
                elif case.is_false_crash:
                    self._count_false_crash(case.scope, now)
        return lost

    def tidy(self, now: datetime) -> None:
        """Drop what was closed long ago, and all beyond the bound: closed cases first."""
        with self.trying("tidy grades"), self._database:
            self._database.execute("delete from cases where closed_at < ?", (text_of(now - _KEPT_CLOSED),))
            self._database.execute(
                "delete from cases where rowid in (select rowid from cases "
                "order by closed_at is null desc, closed_at desc, judged_at desc limit -1 offset ?)",
                (self._most,),
            )

    def trust(self, scope: str, now: datetime) -> bool:
        """A person trusts the scope again: what was found before counts no more. False: it was not distrusted."""
        was = scope in self.distrusted()
        with self.trying("keep that a scope is trusted"), self._database:
            self._database.execute(
                "insert into scopes (scope, trusted) values (?, ?) "
                "on conflict do update set trusted = excluded.trusted, distrusted = null",
                (scope, text_of(now)),
            )
        return was

    def distrusted(self) -> Mapping[str, datetime]:
        """Since when scopes are distrusted; as it was last known, if it cannot be read."""
        records = self.scopes().values()
        return {one.scope: one.distrusted_since for one in records if one.distrusted_since is not None}

    def scopes(self) -> Mapping[str, ScopeRecord]:
        """Every scope that had a false crash, or was trusted again; as it was last known, if it cannot be read."""
        with self.trying("read which scopes are trusted"):
            rows = self._database.execute("select scope, false_crashes, distrusted, trusted from scopes").fetchall()
            self._scopes = {str(row[0]): _record(row) for row in rows}
        return dict(self._scopes)

    def recent_false_crashes(self, scope: str, now: datetime) -> int:
        """How many of the scope were found within a day, and since it was trusted last."""
        found = 0
        with self.trying("count false crashes"):
            found = self._recent(scope, now)
        return found

    def _count_false_crash(self, scope: str, now: datetime) -> None:
        """Distrust the scope if it is the second within a day."""
        self._database.execute(
            "insert into scopes (scope, false_crashes) values (?, 1) "
            "on conflict do update set false_crashes = false_crashes + 1",
            (scope,),
        )
        if self._recent(scope, now) >= DISTRUST_COUNT:
            query = "update scopes set distrusted = coalesce(distrusted, ?) where scope = ?"
            self._database.execute(query, (text_of(now), scope))

    def _recent(self, scope: str, now: datetime) -> int:
        row = self._database.execute("select trusted from scopes where scope = ?", (scope,)).fetchone()
        since = max(now - WATCHED_FOR, moment_of(row[0])) if row and row[0] else now - WATCHED_FOR
        query = "select count(*) from cases where scope = ? and kind = ? and grade = ? and graded_at > ?"
        found = self._database.execute(query, (scope, str(Kind.SETTLED), str(Grade.FALSE), text_of(since))).fetchone()
        return int(found[0])

    def _read(self, which: str) -> list[Case]:
        found = list[Case]()
        with self.trying("read cases"):
            for row in self._database.execute(f"select {', '.join(COLUMNS)} from cases {which}"):  # noqa: S608
                with self.trying("read a case"):
                    found.append(case_of(row))
        return found


def _record(row: tuple[str, int, str | None, str | None]) -> ScopeRecord:
    scope, count, distrusted, trusted = row
    return ScopeRecord(
        scope=str(scope),
        false_crashes=int(count),
        distrusted_since=time_of(distrusted),
        trusted_at=time_of(trusted),
    )


def _prepare(database: sqlite3.Connection) -> None:
    if database.execute("pragma user_version").fetchone() != (_VERSION,):  # another version's grades may be forgotten
        database.executescript(_SCHEMA)
