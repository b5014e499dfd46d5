"""What is kept of every pass, by the daemon and the one-shot command alike: evidence, and grades."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import structlog

from reconciler.evidence_file import Evidence
from reconciler.grading.casebook import Casebook
from reconciler.grading.grader import Grader
from reconciler.hiding import hidden
from reconciler.plan import CycleReport

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Keeping:
    """Keeps the account of passes. `close` it."""

    evidence: Evidence
    casebook: Casebook
    grader: Grader
    redact: Callable[[str], str]

    def kept(self, report: CycleReport) -> CycleReport:
        """Keep it, and give it as it may be told: with what was learned of earlier verdicts, and without secrets.

        A false crash is a problem of the pass that finds it, and an error in the log by itself.
        """
        self.evidence.note(report)
        graded = self.grader.note(report)
        for alarm in graded.alarms:
            _log.error(self.redact(alarm))
        told = replace(
            report,
            problems=(*report.problems, *graded.alarms, *self._unreadable()),
            warnings=(*report.warnings, *self.evidence.problems, *graded.warnings),
            false_crashes=graded.false_crashes,
            shadows={str(grade): count for grade, count in graded.shadows.items()},
        )
        return hidden(told, self.redact)

    def _unreadable(self) -> Iterator[str]:
        if self.casebook.is_unreadable:
            yield "which scopes are not trusted cannot be read, so nothing is written (see the warnings)"

    def close(self) -> None:
        self.casebook.close()
