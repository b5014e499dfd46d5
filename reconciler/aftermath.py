"""What came of settlements and of what follows them, in words and counts: subflows, task runs, resumptions. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

from reconciler.model import Action, OutcomeKind, RunId, Verdict
from reconciler.plan import CycleReport, Finding, Outcome, Resumption
from reconciler.problems import FAILURES
from reconciler.words import many, span

_STATES = {Action.CRASH: "Crashed", Action.CANCEL: "Cancelled"}


def is_accepted(outcome: Outcome | None) -> bool:
    return outcome is not None and outcome.kind is OutcomeKind.ACCEPTED


def word_of(kind: OutcomeKind) -> str:
    return kind.lower().replace("_", " ")


def written(action: Action) -> str:
    """Write what a settlement that was accepted did."""
    return f"set to {_STATES[action]}"


@dataclass(frozen=True, slots=True)
class Aftermath:
    """One report, with its task runs counted: there may be many, and each settled flow run asks."""

    report: CycleReport
    task_runs: Mapping[RunId, int]  # set to Crashed, by flow run

    @classmethod
    def of(cls, report: CycleReport) -> Self:
        done = report.settled.task_runs
        return cls(report, Counter(one.flow_run_id for one, outcome in done if is_accepted(outcome)))

    def account(self, finding: Finding) -> Iterator[str]:
        """Write what came of one zombie, or would."""
        outcome = self.report.outcomes.get(finding.run.id)
        if outcome is None:
            yield from _forecast(finding)
            return
        verb = written(finding.action) if is_accepted(outcome) else word_of(outcome.kind)
        yield f"{verb}: {outcome.detail}" if outcome.detail else verb
        yield from self.sequel(finding)

    def sequel(self, finding: Finding) -> Iterator[str]:
        """Write what followed its settlement."""
        if count := self.task_runs.get(finding.run.id, 0):
            yield f"{many(count, 'task run')} set to Crashed"
        outcome = self.report.outcomes.get(finding.run.id)
        if finding.resumption is not None and outcome is not None and is_accepted(outcome):
            yield _resumed(finding.resumption, outcome, self.report.settled.resumed.get(finding.run.id))


def subflows_settled(report: CycleReport) -> list[Finding]:
    """The in-process subflows among the flow runs that were settled."""
    return [
        one for one in report.plan.findings if one.root is not None and is_accepted(report.outcomes.get(one.run.id))
    ]


def counted(report: CycleReport) -> str:
    """Count for a sentence: "2 accepted, 1 failed, 3 task runs set to Crashed, 1 resumed"."""
    done = Counter(outcome.kind for outcome in report.outcomes.values())
    tasks = Counter(outcome.kind for _, outcome in report.settled.task_runs)
    resumed = Counter(outcome.kind for outcome in report.settled.resumed.values())
    parts = [f"{count} {word_of(kind)}" for kind, count in sorted(done.items())]
    more = (
        (tasks[OutcomeKind.ACCEPTED], f"{many(tasks[OutcomeKind.ACCEPTED], 'task run')} set to Crashed"),
        (_failures(tasks), f"{many(_failures(tasks), 'task run')} not settled"),
        (resumed[OutcomeKind.ACCEPTED], f"{resumed[OutcomeKind.ACCEPTED]} resumed"),
        (_failures(resumed), f"{_failures(resumed)} not resumed"),
    )
    return ", ".join([*parts, *(text for count, text in more if count)])


def _forecast(finding: Finding) -> Iterator[str]:
    if finding.verdict is not Verdict.ZOMBIE:
        return
    yield f"would be {written(finding.action)}"
    if planned := finding.resumption:
        yield f"would then be resumed ({planned.number} of {planned.most}) after {span(planned.delay)}"


def _resumed(planned: Resumption, settlement: Outcome, outcome: Outcome | None) -> str:
    if is_accepted(outcome):
        return f"then resumed ({planned.number} of {planned.most}), due in {span(planned.delay)}"
    if outcome is not None:
        return f"not resumed: {outcome.detail or word_of(outcome.kind)}"
    return "not resumed" if settlement.is_last_word else "not resumed: its settlement was not the last word"


def _failures(counts: Counter[OutcomeKind]) -> int:
    return sum(counts[kind] for kind in FAILURES)
