"""What a plan says, written: each root before its subflows, these deepest first, then task runs, then resumptions.

A subflow is written only after its root was, for the server's acceptance there is what proves that nobody reported.
What could not be finished for a settled run is tried again in the next pass.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

from reconciler.model import FlowRun, OutcomeKind, RunId, TaskRun, Verdict
from reconciler.plan import SIGNATURE, Finding, Outcome, Plan, Policy, Settled
from reconciler.ports import MOST_OPEN_TASK_RUNS, Orchestrator, OrchestratorError
from reconciler.sentences import sentence
from reconciler.unfinished import Unfinished, still_so
from reconciler.weigh import Weighed

Hindrance = Callable[[], str | None]  # why nothing more may be begun; None: nothing hinders
WhatLives = Callable[[Sequence[FlowRun]], Mapping[RunId, Weighed]]  # what there is of these runs now

_T = TypeVar("_T")
_FRESH = 25  # task runs that are written before their flow runs are read again: one may have been started anew


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
        families = _open_families(plan, outcomes)
        resumed = _told(lambda: self._resume(families, hindrance, what_lives), problems)
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

        They are listed first, and the flow runs read again after that, and again: one that was started anew meanwhile
        has task runs that live. Those that stand for subflows follow these: the server sees to it.
        """
        if not self.unfinished.task_runs or hindrance() is not None:
            return []
        left = self.unfinished.task_runs
        listed = self.orchestrator.open_task_runs(sorted(left))
        found = [one for one in listed if not one.placeholder]
        done: list[tuple[TaskRun, Outcome]] = []
        for start in range(0, len(found), _FRESH):
            settled = still_so(self.orchestrator, left)
            for task_run in found[start : start + _FRESH]:
                if hindrance() is None and task_run.flow_run_id in settled:
                    message = _message(settled[task_run.flow_run_id].finding)
                    done.append((task_run, self.orchestrator.settle_task_run(task_run, message)))
        self._forget(found, dict(done), is_whole=len(found) < MOST_OPEN_TASK_RUNS)
        return done

    def _forget(self, found: Sequence[TaskRun], done: Mapping[TaskRun, Outcome], *, is_whole: bool) -> None:
        """Keep the runs of which something is left to do, or may be, since the list was cut at its bound."""
        if is_whole:
            failed = {one for one in found if one not in done or done[one].kind is OutcomeKind.FAILED}
            open_runs = {one.flow_run_id for one in failed}
            left = self.unfinished.task_runs
            self.unfinished.task_runs = {run_id: one for run_id, one in left.items() if run_id in open_runs}

    def _resume(self, families: Collection[RunId], hindrance: Hindrance, what_lives: WhatLives) -> dict[RunId, Outcome]:
        """Start again what is to be started again, after a last look: nothing of it may live. Raises."""
        if not self.unfinished.resumptions or hindrance() is not None:
            return {}
        self.unfinished.resumptions = still_so(self.orchestrator, self.unfinished.resumptions)
        outcomes = dict[RunId, Outcome]()
        waiting = {  # what is left of the attempt that has ended must not be taken for the next one's
            run_id: written
            for run_id, written in self.unfinished.resumptions.items()
            if run_id not in self.unfinished.task_runs and run_id not in families
        }
        seen = what_lives([one.finding.run for one in waiting.values()]) if waiting else {}
        for run_id, written in waiting.items():
            if hindrance() is not None:
                break
            outcome = _doubt(seen[run_id]) or self.orchestrator.resume(written.finding, written.state_id)
            outcomes[run_id] = outcome
            if outcome.kind is not OutcomeKind.FAILED:
                del self.unfinished.resumptions[run_id]
        return outcomes


def _open_families(plan: Plan, outcomes: Mapping[RunId, Outcome]) -> set[RunId]:
    """The roots of which subflows are still to be settled."""
    waiting = (Verdict.WAITING, Verdict.ZOMBIE)
    mine = (one for one in plan.findings if one.inside is not None and one.verdict in waiting)
    left = (one for one in mine if one.run.id not in outcomes or outcomes[one.run.id].kind is OutcomeKind.FAILED)
    return {one.inside.id for one in left if one.inside is not None}


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
    if finding.run.state_type.is_terminal:
        why = f": {reason}" if (reason := finding.reason.removesuffix(SIGNATURE).rstrip(" .")) else ""
        return f"its flow run is {finding.run.state_name}{why}. {SIGNATURE}"
    return f"its flow run is Crashed: {finding.message}"


def _doubt(weighed: Weighed) -> Outcome | None:
    """Why it is not started again: it lives, or may live."""
    if not weighed.live:
        if weighed.blind:
            return Outcome(OutcomeKind.FAILED, "; ".join(weighed.blind))
        vouching = [one.scope for one in weighed.ended] + [one.scope for one in weighed.absent if one.counts]
        if vouching:
            wary = [one.name for one in vouching if one.observes or one.distrusted_since]
            why = f"scope '{wary[0]}' observes, or is not trusted" if wary else ""
            return Outcome(OutcomeKind.STATE_CHANGED, why) if wary else None
        why = "; ".join(absence.why_not for absence in weighed.absent) or "no scope is asked about it"
        return Outcome(OutcomeKind.STATE_CHANGED, f"it may be alive where nobody looks: {why}")
    what = sentence(weighed.live[0].observation)
    return Outcome(OutcomeKind.REFUSED, f"{what}", alarm=f"it was set to Crashed, and {what}: it is not started again")
