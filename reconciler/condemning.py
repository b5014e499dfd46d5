"""From what was seen to a zombie: what must have passed, and what must be so twice. Pure.

Rules 2, 6, 7, 8 and 9 say whose end or absence it is; that it may be believed is the same for all of them.
"""

from __future__ import annotations

from dataclasses import replace

from reconciler.matter import (
    LONG_AGO,
    Matter,
    ended_at_first_look,
    ended_by,
    lost_of_late,
    settle_time,
    unheard,
    youth_of,
)
from reconciler.model import Verdict
from reconciler.plan import Finding
from reconciler.sentences import NOTHING
from reconciler.snapshot import ScopeView
from reconciler.weigh import Absence, Sight
from reconciler.words import span


def after_end(matter: Matter, sight: Sight, rule: str, reason: str) -> Finding:
    """It ended: once the settle time has passed, and nothing else can come to light, it is a zombie."""
    scope, now = sight.scope, matter.snapshot.taken_at
    settle, name = settle_time(matter, sight.observation)
    age = now - max(ended_by(matter, sight), matter.retry_due or LONG_AGO)
    if scope.lag and (youth := youth_of(matter, sight)) < scope.lag:
        return _waits(
            matter, sight, f"{_late(scope, 'what else was made')}, for another {span(scope.lag - youth)}", reason
        )
    if sight.observation.ended_at is None and not ended_at_first_look(matter, sight):
        return _to_confirm(matter, sight, "its end has no time, so it is looked at twice", reason)
    if age - scope.clock.uncertainty < settle:
        return _waits(matter, sight, f"{name} of {span(settle)} has not passed ({span(age)} so far)", reason)
    if (lost := lost_of_late(matter)) and not ended_at_first_look(matter, sight):
        return _to_confirm(matter, sight, f"a second look, for {lost.resource.title} was alive before", reason)
    return _zombie(matter, sight, rule, reason + unheard(matter))


def after_absence(matter: Matter, absence: Absence, rule: str, reason: str) -> Finding:
    """It is not there, where that counts: if that is so twice, and the state is no younger than grace, a zombie."""
    policy, sight = matter.policy, Sight(absence.scope, absence.observation or NOTHING)
    age = min(matter.state_age, matter.snapshot.taken_at - (matter.retry_due or LONG_AGO))
    first = matter.first_look
    was_absent = first is not None and absence.scope.name in first.absent_from
    if age < policy.grace:
        finding = _waits(matter, sight, f"the state is {span(age)} old, grace is {span(policy.grace)}", reason)
    elif matter.state_age - sight.scope.clock.uncertainty < sight.scope.lag:
        late = _late(sight.scope, "what was made")
        finding = _waits(matter, sight, f"the state is {span(matter.state_age)} old, and {late}", reason)
    elif first is None or not was_absent or matter.snapshot.taken_at - first.at < policy.confirm_after:
        finding = _to_confirm(matter, sight, f"a second look after {span(policy.confirm_after)}", reason)
    else:
        finding = _zombie(matter, sight, rule, reason + unheard(matter))
    return finding.absent(absence.counts)


def _zombie(matter: Matter, sight: Sight, rule: str, reason: str) -> Finding:
    return confirmed(matter, matter.zombie(rule, reason, sight.observation.why, sight))


def confirmed(matter: Matter, finding: Finding) -> Finding:
    """A zombie by what was seen; suspects are judged again with their history before that stands."""
    if finding.verdict is not Verdict.ZOMBIE:
        return finding
    history = matter.case.history
    if history is None or matter.wants_history_of_root:
        return _awaits(finding, "its state history is still to be read").suspected()
    if history[-1].id != matter.run.state_id:
        return _awaits(finding, "its state has changed since it was listed")
    if matter.case.first_look is None:
        return _awaits(finding, "a second look, in every scope").suspected()
    return finding.suspected()


def _late(scope: ScopeView, what: str) -> str:
    return f"scope '{scope.name}' may not show yet {what} within {span(scope.lag)}"


def _awaits(finding: Finding, awaited: str) -> Finding:
    rule, reason = finding.rule if finding.inside else "10", f"{finding.reason}; awaited: {awaited}"
    waits = replace(finding, verdict=Verdict.WAITING, rule=rule, reason=reason, is_suspect=False)
    return replace(waits, cause=None, labels_run=False)


def _to_confirm(matter: Matter, sight: Sight, awaited: str, reason: str) -> Finding:
    return _waits(matter, sight, awaited, reason).suspected(wants_time=True)


def _waits(matter: Matter, sight: Sight, awaited: str, reason: str) -> Finding:
    return matter.verdict(Verdict.WAITING, "10", f"{reason}; awaited: {awaited}", sight)
