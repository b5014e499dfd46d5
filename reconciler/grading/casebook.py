"""`grades.sqlite3` in `state_dir`: settlements and would-be settlements with their grades, and who is trusted.

It may be lost: then no case is watched any more and every scope is trusted. The daemon and the one-shot command share
it. While it is there and cannot be read, no scope is trusted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from reconciler.grading.cases import DISTRUST_COUNT, WATCHED_FOR, Case, Grade, Key, Kind, count_of_incidents
from reconciler.grading.distrust import Everyone, Found, ScopeRecord, Trusted
from reconciler.grading.rows import COLUMNS, case_of, row_of
from reconciler.model import Action
from reconciler.rows import moment_of, text_of, time_of
from reconciler.state_database import StateDatabase

GRADES_FILE = "grades.sqlite3"
_KEPT_CLOSED = timedelta(days=30)
_KEPT_CASES = 10_000
_VERSION = 4
_SCHEMA = f"""
drop table if exists cases;
drop table if exists scopes;
drop table if exists begun;
create table begun (at text not null);
create table cases ({", ".join(COLUMNS)}, primary key (run_id, state_id, kind));
create index cases_watched on cases (closed_at);
create table scopes (scope text primary key, false_crashes integer not null default 0, distrusted text, trusted text);
pragma user_version = {_VERSION};
"""
_ADDED = {  # by the version that lacked it
    2: f"alter table cases add column action text not null default '{Action.CRASH}'",
    3: "alter table cases add column root text",
}
_MARKS = ", ".join("?" * len(COLUMNS))
_CHANGE = (
    f"update cases set {', '.join(f'{name} = ?' for name in COLUMNS[3:])} "  # noqa: S608
    "where run_id = ? and state_id = ? and kind = ? and closed_at is null"
)


class Casebook(StateDatabase):
    """Never raises: what cannot be read or kept becomes one of `problems`, and the pass goes on without it."""

    def __init__(self, path: Path | None = None, *, most: int = _KEPT_CASES) -> None:
        """`most`: so many cases are kept, those that were closed first going first."""
        super().__init__(
            path,
            _prepare,
            title="grades",
            loss="verdicts may stay ungraded, and which scopes are not trusted is not known",
            unreadable="which scopes are not trusted cannot be read, so nothing is written until it can "
            "(remove the file to trust all)",
        )
        self._most = most
        self._scopes: dict[str, ScopeRecord] | None = None  # as last read: a locked file makes no scope trusted
        self._found = Found()
        self._counts: tuple[dict[Grade, int], int] = {}, 0
        self._blind_since = datetime.now(UTC)

    @property
    def is_unreadable(self) -> bool:
        """The file is there, and which scopes are not trusted was never read from it."""
        if self._scopes is None:
            self.scopes()
        return self._scopes is None

    def note_begin(self, now: datetime) -> None:
        """Keep when somebody looked first, as far as this file knows."""
        with self.trying("keep when it began"), self._database:
            self._database.execute("insert into begun select ? where not exists (select 1 from begun)", (text_of(now),))

    def begun(self) -> datetime | None:
        began: datetime | None = None
        with self.trying("read when it began"):
            row = self._database.execute("select at from begun").fetchone()
            began = time_of(row[0]) if row else None
        return began

    def watched(self) -> list[Case]:
        """Every case that is not closed, the oldest first."""
        return self._read("where closed_at is null order by judged_at, run_id")

    def cases(self) -> list[Case]:
        """Every case, the newest first."""
        return self._read("order by judged_at desc, run_id")

    def counts(self) -> tuple[dict[Grade, int], int]:
        """How many would-be settlements have each grade, and how many cases are watched; as last known."""
        with self.trying("count grades"):
            query = "select grade, count(*) from cases where kind = ? group by grade"
            counts = {Grade(grade): number for grade, number in self._database.execute(query, (str(Kind.SHADOW),))}
            (watched,) = self._database.execute("select count(*) from cases where closed_at is null").fetchone()
            self._counts = counts, int(watched)
        return self._counts

    def add(self, cases: Collection[Case]) -> list[Case]:
        """Keep new cases, and give those that were; one that is known is left as it is."""
        added = list[Case]()
        with self.trying("keep cases"), self._database:
            for case in cases:
                row = self._database.execute(f"insert or ignore into cases values ({_MARKS})", row_of(case))  # noqa: S608
                added += [case] if row.rowcount == 1 else []
        return added

    def change(self, cases: Iterable[Case], now: datetime) -> set[Key]:
        """Keep what became of watched cases, and count false crashes. Gives those that another process had closed.

        What cannot be kept is counted all the same, for as long as this process lives.
        """
        lost, changed = set[Key](), list(cases)
        with self.trying("keep grades"), self._database:
            for case in changed:
                row = row_of(case)
                if self._database.execute(_CHANGE, (*row[3:], *row[:3])).rowcount != 1:
                    lost.add(case.key)
                elif case.is_counted:
                    self._count_false_crash(case.scope, now)
        false = [case for case in changed if case.is_counted and case.key not in lost]
        for case in false:
            self._found.note(case, now)
            if self.recent_false_crashes(case.scope, now) >= DISTRUST_COUNT and case.scope not in self.distrusted():
                self._found.distrust(case.scope, now)
        return lost

    def tidy(self, now: datetime) -> None:
        """Drop what was closed long ago, and all beyond the bound: closed cases first."""
        with self.trying("tidy grades"), self._database:
            self._database.execute("delete from cases where closed_at < ?", (text_of(now - _KEPT_CLOSED),))
            self._database.execute(
                "delete from cases where rowid in (select rowid from cases "
                "order by (kind = ? and grade = ? and graded_at > ?) desc, "  # these count still
                "closed_at is null desc, closed_at desc, judged_at desc limit -1 offset ?)",
                (str(Kind.SETTLED), str(Grade.FALSE), text_of(now - WATCHED_FOR), self._most),
            )

    def trust(self, scope: str, now: datetime) -> Trusted:
        """A person trusts the scope again: what was found before counts no more."""
        was = scope in self.distrusted()
        with self.trying("keep that a scope is trusted"):
            with self._database:
                query = (
                    "insert into scopes (scope, trusted) values (?, ?) "
                    "on conflict do update set trusted = excluded.trusted, distrusted = null"
                )
                self._database.execute(query, (scope, text_of(now)))
            if self._is_kept:
                self._found.forgive(scope)
                return Trusted(was)
        return Trusted(was, f"scope '{scope}' could not be trusted: {self.problems[-1]}")

    def distrusted(self) -> Mapping[str, datetime]:
        """Since when scopes are distrusted; as it was last known, or every one, if it cannot be read."""
        known = self._found.merged(self.scopes().values())
        return Everyone(self._blind_since, known) if self.is_unreadable else known

    def scopes(self) -> Mapping[str, ScopeRecord]:
        """Every scope that had a false crash, or was trusted again; as it was last known, if it cannot be read."""
        with self.trying("read which scopes are trusted"):
            rows = self._database.execute("select scope, false_crashes, distrusted, trusted from scopes").fetchall()
            if not self._is_shut:  # else that is not the file
                self._scopes = {str(row[0]): _record(row) for row in rows}
        return dict(self._scopes or {})

    def recent_false_crashes(self, scope: str, now: datetime) -> int:
        """How many of the scope were found within a day, and since it was trusted last; of one root's subflows one."""
        record = self.scopes().get(scope)
        trusted = min(record.trusted_at, now) if record and record.trusted_at else now - WATCHED_FOR
        found = self._found.of(scope)
        with self.trying("count false crashes"):
            query = (
                "select coalesce(root, run_id || '/' || state_id), graded_at from cases "
                "where scope = ? and kind = ? and grade = ?"
            )
            rows = self._database.execute(query, (scope, str(Kind.SETTLED), str(Grade.FALSE))).fetchall()
            found += [(str(incident), moment_of(at)) for incident, at in rows]
        return count_of_incidents(one for one, at in found if at > now - WATCHED_FOR and at >= trusted)

    def _count_false_crash(self, scope: str, now: datetime) -> None:
        """Distrust the scope if it is the second within a day. A time of trust that is to come was a wrong clock's."""
        self._database.execute(
            "insert into scopes (scope, false_crashes) values (?, 1) on conflict do update set "
            "false_crashes = false_crashes + 1, trusted = min(trusted, ?)",
            (scope, text_of(now)),
        )
        if self.recent_false_crashes(scope, now) >= DISTRUST_COUNT:
            query = "update scopes set distrusted = coalesce(distrusted, ?) where scope = ?"
            self._database.execute(query, (text_of(now), scope))

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
    (version,) = database.execute("pragma user_version").fetchone()
    if version in _ADDED:  # who is not trusted outlasts an upgrade
        added = "; ".join(change for lacking, change in _ADDED.items() if lacking >= version)
        database.executescript(f"begin; {added}; pragma user_version = {_VERSION}; commit")
    elif version != _VERSION:  # another version's grades may be forgotten
        database.executescript(_SCHEMA)
