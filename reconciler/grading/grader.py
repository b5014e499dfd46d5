"""After each pass: opens cases, and grades those that are watched. Costs no call when nothing is watched."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from reconciler.clock import since_boot
from reconciler.grading.alarms import distrusted_sentence, false_crash_sentence, unclear_sentence, uncounted_sentence
from reconciler.grading.casebook import Casebook
from reconciler.grading.cases import Case, Grade, Opinion
from reconciler.grading.grades import DELETED, by_age, by_history
from reconciler.grading.opening import opened
from reconciler.grading.signs import Signs
from reconciler.model import EXACT, FlowRun, Guard, RunId, StateRecord, Verdict
from reconciler.plan import CycleReport
from reconciler.ports import Orchestrator, OrchestratorError

_MOST_ASKED = 400  # rows in one pass: two calls
_MOST_HISTORIES = 50  # one call each; the rest wait for the next pass
_STILL_JUDGED = frozenset({Guard.MODE, Guard.TRUST, Guard.RATE, Guard.OPT_OUT, Guard.SELECTION})  # none doubts it
_RARELY = timedelta(minutes=5)
_MOST_FAILURES = 3  # histories one after another: then the API fails, and not a run's history
_SHARE = 20  # a case is asked about again when it has become a twentieth older


@dataclass(frozen=True, slots=True)
class Graded:
    """What a pass taught. `alarms` are for a person to look at now; all sentences are clean and without secrets."""

    alarms: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()  # the casebook's problems among them
    false_crashes: Mapping[str, int] = field(default_factory=dict)  # by scope: ever
    shadows: Mapping[Grade, int] = field(default_factory=dict)  # would-be settlements kept, by grade; all five
    watched: int = 0
    distrusted: Mapping[str, datetime] = field(default_factory=dict)  # by scope: since when, ours


class Grader:
    """Grades by the reports of one reconciler. Not for use by two threads at once."""

    def __init__(self, casebook: Casebook, orchestrator: Orchestrator, redact: Callable[[str], str] = str) -> None:
        self._casebook, self._orchestrator, self._redact = casebook, orchestrator, redact
        self._unread: dict[RunId, datetime] = {}  # whose history could not be read, and when that was last
        self._last = Graded()

    def note(self, report: CycleReport, deadline: float = math.inf) -> Graded:
        """Grade what can be graded now. No call is begun after `deadline`, a `since_boot()` value. Never raises."""
        self._casebook.begin()
        try:
            if report.was_listed:
                self._casebook.note_begin(report.taken_at)
            watched = self._casebook.watched()
            self._unread = {case.run_id: self._unread[case.run_id] for case in watched if case.run_id in self._unread}
            sitting = Sitting(self._orchestrator, report, deadline, self._unread) if watched else None
            changes = sitting.grade(watched) if sitting else []
            alarms, warnings = self._keep(changes, report.ended_at)
            known = {case.key for case in watched}
            added = self._casebook.add(list(opened(report, known, self._redact)))
            if added or any(case.closed_at for _, case in changes):
                self._casebook.tidy(report.ended_at)
            self._last = self._graded(report, alarms, [*(sitting.warnings if sitting else ()), *warnings])
        except Exception as error:  # noqa: BLE001 - a grade must never stop what it grades
            bug = f"a bug of ours ({type(error).__name__}: {error}): please report it; verdicts go on ungraded"
            return replace(self._last, alarms=(), warnings=(*self._casebook.problems, self._redact(bug)))
        return self._last

    def _keep(self, changes: Sequence[tuple[Case, Case]], now: datetime) -> tuple[list[str], list[str]]:
        """Keep the changed cases (before, after), and say what a person must know."""
        alarms, warnings = list[str](), list[str]()
        lost = self._casebook.change((after for _, after in changes), now)
        for before, after in changes:
            if after.grade is before.grade or after.key in lost:
                continue
            if after.is_counted:
                count = max(self._casebook.recent_false_crashes(after.scope, now), 1)
                alarms.append(self._redact(false_crash_sentence(after, count)))
            elif after.is_false_crash:
                warnings.append(self._redact(uncounted_sentence(after)))
            elif after.grade is Grade.UNCLEAR:
                warnings.append(self._redact(unclear_sentence(after)))
        return alarms, warnings

    def _graded(self, report: CycleReport, alarms: Sequence[str], warnings: Sequence[str]) -> Graded:
        scopes, distrusted = self._casebook.scopes(), self._casebook.distrusted()
        counts, watched = self._casebook.counts()
        configured = {scope.name for scope in report.scopes}
        standing = [distrusted_sentence(scope, since) for scope, since in distrusted.items() if scope in configured]
        return Graded(
            alarms=tuple(alarms),
            warnings=(*warnings, *standing, *self._casebook.problems),
            false_crashes={name: one.false_crashes for name, one in scopes.items()},
            shadows={grade: counts.get(grade, 0) for grade in Grade},
            watched=watched,
            distrusted=distrusted,
        )


class Sitting:
    """The grading of one pass."""

    def __init__(
        self, orchestrator: Orchestrator, report: CycleReport, deadline: float, unread: dict[RunId, datetime]
    ) -> None:
        """`unread`: whose history could not be read, and when; it is kept up."""
        self.warnings: list[str] = []
        self._unread = unread
        self._orchestrator, self._report, self._deadline = orchestrator, report, deadline
        self._now, self._signs = report.ended_at, Signs(report)
        snapshot = report.snapshot
        self._in_flight = {case.run.id: case for case in snapshot.cases} if snapshot else {}
        self._clock = snapshot.server_clock if snapshot else EXACT
        self._zombies = {
            (finding.run.id, finding.run.state_id)
            for finding in report.plan.findings
            if (finding.verdict is Verdict.ZOMBIE or finding.guard in _STILL_JUDGED) and self._signs.are_readable
        }
        self._histories = 0  # calls
        self._failures = 0  # one after another

    def grade(self, watched: Sequence[Case]) -> list[tuple[Case, Case]]:
        """Give each case that has changed, as it was and as it is."""
        rows, never = self._rows(watched), datetime.min.replace(tzinfo=UTC)
        in_turn = sorted(watched, key=lambda case: self._unread.get(case.run_id, never))  # who failed last goes last
        changes = ((case, self._graded(case, rows)) for case in in_turn)
        return [(before, after) for before, after in changes if after != before]

    def _graded(self, case: Case, rows: Mapping[RunId, FlowRun | None]) -> Case:
        opinion, is_read = self._signs.of(case), False
        if opinion is None and case.run_id in rows:
            row = rows[case.run_id]
            if case.run_id not in self._in_flight:
                case = replace(case, asked_at=self._now)
            case, opinion = self._by_row(case, row) if row else (case, DELETED)
            is_read = row is not None and not _has_moved(case, row)
        if opinion is not None:
            case = self._with(case, opinion)
        if case.closed_at is None and (late := self._by_age(case, is_read=is_read)) is not None:
            case = self._with(case, late)
        return case

    def _with(self, case: Case, opinion: Opinion) -> Case:
        others = opinion.others_settled_at
        case = case.graded(opinion, self._now)
        return replace(case, others_at=self._clock.to_ours(others)) if others is not None else case

    def _by_age(self, case: Case, *, is_read: bool) -> Opinion | None:
        stays_zombie = (case.run_id, case.state_id) in self._zombies
        return by_age(case, self._now, stays_zombie=stays_zombie, is_read=is_read)

    def _rows(self, watched: Sequence[Case]) -> dict[RunId, FlowRun | None]:
        """The watched runs as they are now, as far as that is known; None: deleted."""
        listed = {run_id: case.run for run_id, case in self._in_flight.items()}
        asked = {case.run_id: case for case in watched if case.run_id not in listed and self._is_due(case)}
        longest = sorted(asked.values(), key=lambda case: (case.asked_at is not None, case.asked_at or case.judged_at))
        chosen = [case.run_id for case in longest[:_MOST_ASKED]]
        rows: dict[RunId, FlowRun | None] = {
            case.run_id: listed[case.run_id] for case in watched if case.run_id in listed
        }
        if not chosen or not self._report.was_listed or since_boot() > self._deadline:
            return rows
        try:
            found = self._orchestrator.reread(chosen)
        except OrchestratorError as error:
            self.warnings.append(f"{len(chosen)} flow runs could not be read to grade what was judged of them: {error}")
            return rows
        return rows | {run_id: found.get(run_id) for run_id in chosen}

    def _is_due(self, case: Case) -> bool:
        if case.asked_at is None:
            return True
        pause = min(case.age(self._now) / _SHARE, _RARELY)
        return not timedelta(0) <= self._now - case.asked_at < pause  # earlier than that: our clock was set back

    def _by_row(self, case: Case, row: FlowRun) -> tuple[Case, Opinion | None]:
        """Read the history if the row says that something has happened."""
        if not _has_moved(case, row):
            return case, None
        history = self._history(row)
        if history is None:
            return case, None
        return replace(case, read_state=row.state_id), by_history(case, history, row if row.is_in_flight else None)

    def _history(self, row: FlowRun) -> Sequence[StateRecord] | None:
        known = self._in_flight.get(row.id)
        if known is not None and any(record.id == row.state_id for record in known.history or ()):
            return known.history  # the cycle has read it, and the run has not moved on since
        is_over = self._histories >= _MOST_HISTORIES or since_boot() > self._deadline
        if is_over or self._failures >= _MOST_FAILURES:
            return None
        self._histories += 1
        try:
            history = self._orchestrator.history(row.id)
        except OrchestratorError as error:
            self._failures += 1
            self._unread[row.id] = self._now
            self.warnings.append(f"the history of flow run {row.id} could not be read to grade it: {error}")
            return None
        self._failures = 0
        self._unread.pop(row.id, None)
        return history


def _has_moved(case: Case, row: FlowRun) -> bool:
    """Whether the run is in another state than when its history was read last, or than it was judged in.

    The id of the Crashed that we set is not known, and a live run may be Crashed again by others: so the history of
    every settlement is read once, and again after each change.
    """
    return row.state_id != (case.read_state or case.state_id)
