"""What still has to follow settlements: task runs to be settled, runs to be started again.

Kept in the process from pass to pass. A process that begins asks the server instead, which knows all of it: what we
wrote of late is told by its state message and proved by its history, so that a restart forgets nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import pairwise
from uuid import UUID

from reconciler.guards import opted_out
from reconciler.model import Action, FlowRun, OutcomeKind, RunId, StateRecord, Verdict
from reconciler.plan import Finding, Mode, Outcome, Policy, announced_resumption, transition_id
from reconciler.ports import Orchestrator, OrchestratorError, Unreadable
from reconciler.resuming import may_be_resumed, resumption_of

_OF_LATE = timedelta(hours=1)
_MOST = 1000


@dataclass(frozen=True, slots=True)
class Written:
    """A run that we set to Crashed, and the state that it has since."""

    finding: Finding
    state_id: UUID


@dataclass
class Unfinished:
    """By run. Bounded."""

    task_runs: dict[RunId, Written] = field(default_factory=dict)  # whose task runs are still to be settled
    resumptions: dict[RunId, Written] = field(default_factory=dict)
    _is_recalled: bool = False

    def note(self, finding: Finding, outcome: Outcome, policy: Policy) -> None:
        """Keep what follows from one settlement."""
        if outcome.kind is OutcomeKind.ACCEPTED and not outcome.is_last_word:
            self._is_recalled = False  # perhaps it was only not to be seen: the history proves what is ours
        if not outcome.is_last_word or outcome.state_id is None or finding.action is not Action.CRASH:
            return
        self._add(Written(finding, outcome.state_id), policy)
        root = finding.inside
        if root is not None and root.state_type.is_terminal:  # whoever ended it left its task runs, too
            reason = root.state_message or ""
            self._add(Written(replace(finding, run=root, inside=None, reason=reason), root.state_id), policy)

    def recall(self, orchestrator: Orchestrator, policy: Policy) -> None:
        """Ask the server, once, what an earlier process did not finish. Raises OrchestratorError.

        A call or two, and a history of each run of ours that something is left of.
        """
        wanted = policy.settle_task_runs or policy.resume_max
        if self._is_recalled or not wanted or not _writes_freely(policy):
            return
        known = self.task_runs.keys() | self.resumptions.keys()
        crashed = {
            run.id: (run, message) for run, message in orchestrator.crashed_by_us(_OF_LATE) if run.id not in known
        }
        wants = {run_id for run_id, (_, message) in crashed.items() if announced_resumption(message)}
        if policy.settle_task_runs and crashed:
            wants |= {one.flow_run_id for one in orchestrator.open_task_runs(crashed.keys()) if not one.placeholder}
        failed: OrchestratorError | None = None
        for run_id in sorted(wants & crashed.keys()):
            try:
                history = orchestrator.history(run_id)
            except OrchestratorError as error:  # one that cannot be read keeps no other back
                failed = error
                continue
            written = _proved(*crashed[run_id], history, policy)
            if written is not None and opted_out(written.finding, policy) is None:
                self._add(written, policy)
        if failed is not None:
            raise failed
        self._is_recalled = True

    def bound(self) -> None:
        """Drop the oldest beyond the bound."""
        for left in (self.task_runs, self.resumptions):
            for run_id in list(left)[:-_MOST]:
                del left[run_id]

    def _add(self, written: Written, policy: Policy) -> None:
        if policy.settle_task_runs:
            self.task_runs[written.finding.run.id] = written
        if written.finding.resumption is not None:
            self.resumptions[written.finding.run.id] = written


def still_so(orchestrator: Orchestrator, written: Mapping[RunId, Written]) -> dict[RunId, Written]:
    """Those that still have the state that we wrote. Raises OrchestratorError."""
    try:
        now = orchestrator.reread(written.keys())
    except Unreadable as error:
        now = error.rows
    return {run_id: one for run_id, one in written.items() if run_id in now and now[run_id].state_id == one.state_id}


def _writes_freely(policy: Policy) -> bool:
    chosen: Collection[object] = [*policy.only_pools, *policy.only_runs]
    return policy.mode is Mode.SETTLE and not chosen


def _proved(run: FlowRun, message: str, history: Sequence[StateRecord], policy: Policy) -> Written | None:
    """Whether its state is ours: the id of the transition follows from the state before."""
    crashes = {transition_id(run.id, before.id): after.id for before, after in pairwise(history)}
    last = next(reversed(history), None)
    if last is None or last.id != run.state_id or crashes.get(last.transition_id or last.id) != last.id:
        return None
    reason = f"the reconciler was stopped before it was done: {message}"
    finding = Finding(run=run, verdict=Verdict.ZOMBIE, rule="6", reason=reason)
    if announced_resumption(message) and may_be_resumed(run, policy):
        return Written(resumption_of(finding, history, policy), run.state_id)
    return Written(finding, run.state_id)
