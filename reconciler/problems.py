"""What went wrong in a cycle, as sentences. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime

from reconciler.model import OutcomeKind, RunId
from reconciler.plan import Outcome, Policy, Settled
from reconciler.snapshot import ScopeView, Snapshot

FAILURES = frozenset({OutcomeKind.FAILED, OutcomeKind.REFUSED})


def problems_of(snapshot: Snapshot | None, settled: Settled, policy: Policy) -> Iterator[str]:
    """Whatever could not be read or written, and what a person must look at: any makes the pass incomplete."""
    if snapshot is not None:
        for scope in snapshot.scopes.values():
            yield from _scope_problems(scope, snapshot.taken_at, policy)
        yield from _family_problems(snapshot)
        yield from _suspect_problems(snapshot)
    yield from _unwritten(settled.outcomes, "settled")
    failed = [outcome.detail for _, outcome in settled.task_runs if outcome.kind in FAILURES]
    if failed:
        count = "1 task run was" if len(failed) == 1 else f"{len(failed)} task runs were"
        yield f"{count} not settled: {failed[0]}"
    yield from _unwritten(settled.resumed, "resumed")
    yield from settled.problems


def _unwritten(outcomes: Mapping[RunId, Outcome], done: str) -> Iterator[str]:
    for run_id, outcome in outcomes.items():
        if outcome.kind in FAILURES:
            yield f"flow run {run_id} was not {done}: {outcome.detail}"
        if outcome.alarm:
            yield f"flow run {run_id}: {outcome.alarm}"


def _family_problems(snapshot: Snapshot) -> Iterator[str]:
    """An unresolved family, once for each reason: thousands of subflows may share it."""
    errors = Counter(case.lineage.error for case in snapshot.cases if case.lineage and case.lineage.error)
    for error, count in errors.items():
        yield f"{count} subflow{'' if count == 1 else 's'} could not be judged: {error}"


def _suspect_problems(snapshot: Snapshot) -> Iterator[str]:
    unread = 0
    for case in snapshot.cases:
        if case.history_error:
            yield f"the state history of flow run {case.run.id} could not be read: {case.history_error}"
        unread += case.first_look is not None and case.history is None and not case.history_error
    if unread:
        yield f"the state histories of {unread} suspects were left for the next pass, to have time for the others"
    if snapshot.reread_error:
        yield f"the suspects could not be read again: {snapshot.reread_error}"
    if snapshot.heartbeats_error:
        yield f"the heartbeats of the suspects could not be read: {snapshot.heartbeats_error}"
    if snapshot.life_signs_error:
        yield f"the life signs of the suspects could not be read: {snapshot.life_signs_error}"


def _scope_problems(scope: ScopeView, now: datetime, policy: Policy) -> Iterator[str]:
    trouble = scope.error or scope.incomplete
    if trouble:
        yield f"scope '{scope.name}' could not be read: {trouble}"
    since = scope.known_since
    if scope.former_identity is not None and since is not None and now - since < policy.quiet:
        yield (
            f"scope '{scope.name}' is another place than before: its identity was '{scope.former_identity}' and is "
            f"now '{scope.identity}'; what was seen there before no longer counts"
        )


def warnings_of(snapshot: Snapshot | None) -> Iterator[str]:
    """What a person should know, and what hindered nothing."""
    if snapshot is not None and not snapshot.has_heartbeats:
        yield "this Prefect server counts no heartbeat events, so no life sign can hold a run that was never seen"
