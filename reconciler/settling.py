"""What a plan says, written: each root before its subflows, these deepest first, then task runs, then resumptions.

A subflow is written only after its root was, for the server's acceptance there is what proves that nobody reported.
What could not be finished for a settled run is tried again in the next passes of this process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

from reconciler.model import Action, FlowRun, OutcomeKind, RunId, TaskRun
from reconciler.plan import Finding, Outcome, Plan, Policy, Settled
from reconciler.ports import Orchestrator, OrchestratorError
from reconciler.sentences import sentence
from reconciler.weigh import Weighed

Hindrance = Callable[[], str | None]  # why nothing more may be begun; None: nothing hinders
WhatLives = Callable[[Sequence[FlowRun]], Mapping[RunId, Weighed]]  # of these runs, what lives or may live

_MOST_LEFT = 1000
_T = TypeVar("_T")
_DONE = frozenset({OutcomeKind.ACCEPTED, OutcomeKind.SETTLED_ELSEWHERE, OutcomeKind.STATE_CHANGED})


@dataclass(frozen=True, slots=True)
class _Written:
    """A run that we settled, and the state that it has since."""

    finding: Finding
    state_id: UUID


@dataclass
class Settling:
    """Writes to one Prefect API. Remembers only what it could not finish."""

    orchestrator: Orchestrator
    _unswept: dict[RunId, _Written] = field(default_factory=dict)  # whose task runs are still to be settled
    _unresumed: dict[RunId, _Written] = field(default_factory=dict)

    def settle(self, plan: Plan, policy: Policy, hindrance: Hindrance, what_lives: WhatLives) -> Settled:
        """Write what is to be written. Never raises."""
        outcomes: dict[RunId, Outcome] = {}
        for finding in plan.zombies:
            outcomes[finding.run.id] = outcome = self._one(finding, outcomes, hindrance)
            self._note(finding, outcome, policy)
        problems: list[str] = []
        task_runs = _told(lambda: self._task_runs(hindrance), problems)
        resumed = _told(lambda: self._resume(hindrance, what_lives), problems)
        self._bound()
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
            if of_root.is_last_word:
                return None
            kind = OutcomeKind.STATE_CHANGED if of_root.kind is OutcomeKind.ACCEPTED else of_root.kind
            return Outcome(kind, "it was not proposed, for the flow run that it runs in was not settled for good")
        return self._came_back(finding.inside)

    def _came_back(self, root: FlowRun) -> Outcome | None:
        """Whether a root that had ended goes on: asked just before each of its subflows is written."""
        try:
            now = self.orchestrator.reread([root.id]).get(root.id)
        except OrchestratorError as error:
            return Outcome(OutcomeKind.FAILED, f"it was not proposed, for its parent could not be read: {error}")
        if now is not None and now.state_id == root.state_id:
            return None
        state = now.state_name if now else "deleted"
        return Outcome(OutcomeKind.STATE_CHANGED, f"it was not proposed, for its parent is {state} by now")

    def _note(self, finding: Finding, outcome: Outcome, policy: Policy) -> None:
        if not outcome.is_last_word or outcome.state_id is None or finding.action is not Action.CRASH:
            return
        written = _Written(finding, outcome.state_id)
        if policy.settle_task_runs:
            self._unswept[finding.run.id] = written
        if finding.resumption is not None:
            self._unresumed[finding.run.id] = written

    def _task_runs(self, hindrance: Hindrance) -> list[tuple[TaskRun, Outcome]]:
        """Settle the task runs of settled runs. Raises OrchestratorError; what is left waits for the next pass.

        They are listed first, and the flow runs read again after that: one that was started anew meanwhile has task
        runs that live. Those that stand for subflows follow these: the server sees to it.
        """
        if not self._unswept or hindrance() is not None:
            return []
        found = self.orchestrator.open_task_runs(sorted(self._unswept))
        self._unswept = self._still_so(self._unswept)
        done: list[tuple[TaskRun, Outcome]] = []
        failed: set[RunId] = set()
        for task_run in found:
            written = self._unswept.get(task_run.flow_run_id)
            if written is None or task_run.placeholder:
                continue
            if hindrance() is not None:
                failed.add(task_run.flow_run_id)
                continue
            outcome = self.orchestrator.settle_task_run(task_run, _message(written.finding))
            done.append((task_run, outcome))
            if outcome.kind not in _DONE:
                failed.add(task_run.flow_run_id)
        self._unswept = {run_id: one for run_id, one in self._unswept.items() if run_id in failed}
        return done

    def _resume(self, hindrance: Hindrance, what_lives: WhatLives) -> dict[RunId, Outcome]:
        """Start again what is to be started again, after a last look: nothing of it may live. Raises."""
        if not self._unresumed or hindrance() is not None:
            return {}
        waiting, outcomes = self._still_so(self._unresumed), dict[RunId, Outcome]()
        self._unresumed = dict(waiting)
        living = what_lives([one.finding.run for one in waiting.values()])
        for run_id, written in waiting.items():
            if hindrance() is not None:
                break
            outcome = _alive(living[run_id]) if run_id in living else None
            outcome = outcome or self.orchestrator.resume(written.finding, written.state_id)
            outcomes[run_id] = outcome
            if outcome.kind is not OutcomeKind.FAILED:
                del self._unresumed[run_id]
        return outcomes

    def _still_so(self, written: Mapping[RunId, _Written]) -> dict[RunId, _Written]:
        """Those that still have the state that we wrote. Raises OrchestratorError."""
        now = self.orchestrator.reread(written.keys())
        return {
            run_id: one for run_id, one in written.items() if run_id in now and now[run_id].state_id == one.state_id
        }

    def _bound(self) -> None:
        for left in (self._unswept, self._unresumed):
            for run_id in list(left)[:-_MOST_LEFT]:
                del left[run_id]


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
    return f"its flow run is Crashed: {finding.message}"


def _alive(weighed: Weighed) -> Outcome:
    if not weighed.live:
        return Outcome(OutcomeKind.FAILED, "; ".join(weighed.blind))
    what = sentence(weighed.live[0].observation)
    return Outcome(OutcomeKind.REFUSED, f"{what}", alarm=f"it was set to Crashed, and {what}: it is not started again")
