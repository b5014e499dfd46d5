"""What a plan says, written: each root before its subflows, these deepest first, then task runs, then resumptions.

A subflow is written only after its root was, for the server's acceptance there is what proves that nobody reported.
What could not be finished for a settled run is tried again in the next pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

from reconciler.model import FlowRun, OutcomeKind, RunId, TaskRun
from reconciler.plan import Finding, Outcome, Plan, Policy, Settled
from reconciler.ports import Orchestrator, OrchestratorError
from reconciler.sentences import sentence
from reconciler.unfinished import Unfinished, still_so
from reconciler.weigh import Weighed

Hindrance = Callable[[], str | None]  # why nothing more may be begun; None: nothing hinders
WhatLives = Callable[[Sequence[FlowRun]], Mapping[RunId, Weighed]]  # what there is of these runs now

_T = TypeVar("_T")


@dataclass
class Settling:
    """Writes to one Prefect API. Remembers only what it could not finish."""

    orchestrator: Orchestrator
    unfinished: Unfinished = field(default_factory=Unfinished)

    def settle(self, plan: Plan, policy: Policy, hindrance: Hindrance, what_lives: WhatLives) -> Settled:
        """Write what is to be written. Never raises."""
        outcomes: dict[RunId, Outcome] = {}
        for finding in plan.zombies:
            outcomes[finding.run.id] = outcome = self._one(finding, outcomes, hindrance)
            self.unfinished.note(finding, outcome, policy)
        problems: list[str] = []
        _told(lambda: self.unfinished.recall(self.orchestrator, policy), problems)
        task_runs = _told(lambda: self._task_runs(hindrance), problems)
        resumed = _told(lambda: self._resume(hindrance, what_lives), problems)
        self.unfinished.bound()
        return Settled(outcomes, tuple(task_runs or ()), resumed or {}, tuple(problems))

    def _one(self, finding: Finding, outcomes: Mapping[RunId, Outcome], hindrance: Hindrance) -> Outcome:
        try:
            return self._unfit(finding, outcomes, hindrance) or self.orchestrator.settle(finding)
        except Exception as error:  # noqa: BLE001 - what was written before must still be reported
            return Outcome(OutcomeKind.FAILED, f"a bug of ours: {type(error).__name__}: {error}")

    def _unfit(self, finding: Finding, outcomes: Mapping[RunId, Outcome], hindrance: Hindrance) -> Outcome | None:
        """Why it is not proposed after all."""
        if (why := hindrance()) is not None:
            return Outcome(OutcomeKind.FAILED, f"it was not proposed: {why}")
        if finding.inside is None:
            return None
        if (of_root := outcomes.get(finding.inside.id)) is not None:
            if of_root.is_last_word and of_root.state_id is not None:
                return self._came_back(finding.inside.id, of_root.state_id)
            kind = OutcomeKind.STATE_CHANGED if of_root.kind is OutcomeKind.ACCEPTED else of_root.kind
            return Outcome(kind, "it was not proposed, for the flow run that it runs in was not settled for good")
        if not finding.inside.state_type.is_terminal:
            return Outcome(OutcomeKind.STATE_CHANGED, "it was not proposed, for its root was not settled")
        return self._came_back(finding.inside.id, finding.inside.state_id)

    def _came_back(self, root_id: RunId, state_id: UUID) -> Outcome | None:
        """Whether a root that had ended goes on: asked just before each of its subflows is written."""
        try:
            now = self.orchestrator.reread([root_id]).get(root_id)
        except OrchestratorError as error:
            return Outcome(OutcomeKind.FAILED, f"it was not proposed, for its parent could not be read: {error}")
        if now is not None and now.state_id == state_id:
            return None
        state = now.state_name if now else "deleted"
        return Outcome(OutcomeKind.STATE_CHANGED, f"it was not proposed, for its parent is {state} by now")

    def _task_runs(self, hindrance: Hindrance) -> list[tuple[TaskRun, Outcome]]:
        """Settle the task runs of settled runs. Raises OrchestratorError; what is left waits for the next pass.

        They are listed first, and the flow runs read again after that: one that was started anew meanwhile has task
        runs that live. Those that stand for subflows follow these: the server sees to it.
        """
        if not self.unfinished.task_runs or hindrance() is not None:
            return []
        listed = self.orchestrator.open_task_runs(sorted(self.unfinished.task_runs))
        settled = still_so(self.orchestrator, self.unfinished.task_runs)
        found = [one for one in listed if one.flow_run_id in settled and not one.placeholder]
        done: list[tuple[TaskRun, Outcome]] = []
        for task_run in found:
            if hindrance() is not None:
                break
            message = _message(settled[task_run.flow_run_id].finding)
            done.append((task_run, self.orchestrator.settle_task_run(task_run, message)))
        refused = {one.id for one, outcome in done if outcome.kind is OutcomeKind.REFUSED}
        left = {one.flow_run_id for one in found if one.id not in refused}  # until a list, cut at its bound, has none
        self.unfinished.task_runs = {run_id: one for run_id, one in settled.items() if run_id in left}
        return done

    def _resume(self, hindrance: Hindrance, what_lives: WhatLives) -> dict[RunId, Outcome]:
        """Start again what is to be started again, after a last look: nothing of it may live. Raises."""
        if not self.unfinished.resumptions or hindrance() is not None:
            return {}
        waiting, outcomes = still_so(self.orchestrator, self.unfinished.resumptions), dict[RunId, Outcome]()
        self.unfinished.resumptions = dict(waiting)
        seen = what_lives([one.finding.run for one in waiting.values()])
        for run_id, written in waiting.items():
            if hindrance() is not None:
                break
            outcome = _doubt(seen[run_id]) or self.orchestrator.resume(written.finding, written.state_id)
            outcomes[run_id] = outcome
            if outcome.kind is not OutcomeKind.FAILED:
                del self.unfinished.resumptions[run_id]
        return outcomes


def _told(work: Callable[[], _T], problems: list[str]) -> _T | None:
    """Do it, or say why it was not done."""
    try:
        return work()
    except OrchestratorError as error:
        problems.append(f"what follows settlements was left for the next pass: {error}")
    except Exception as error:  # noqa: BLE001 - what was written before must still be reported
        problems.append(f"a bug of ours after settlements: {type(error).__name__}: {error}")
    return None


def _message(finding: Finding) -> str:
    state = finding.run.state_name if finding.run.state_type.is_terminal else "Crashed"
    return f"its flow run is {state}: {finding.message}"


def _doubt(weighed: Weighed) -> Outcome | None:
    """Why it is not started again: it lives, or may live."""
    if not weighed.live:
        if weighed.blind:
            return Outcome(OutcomeKind.FAILED, "; ".join(weighed.blind))
        if weighed.ended or any(absence.counts for absence in weighed.absent):
            return None
        why = "; ".join(absence.why_not for absence in weighed.absent) or "no scope is asked about it"
        return Outcome(OutcomeKind.STATE_CHANGED, f"it may be alive where nobody looks: {why}")
    what = sentence(weighed.live[0].observation)
    return Outcome(OutcomeKind.REFUSED, f"{what}", alarm=f"it was set to Crashed, and {what}: it is not started again")
