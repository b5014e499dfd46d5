"""What another policy would have done to a decision of which there is a line. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from enum import StrEnum

from reconciler.account.forecast import forecast_of
from reconciler.evidence import Line, rejudge
from reconciler.guards import Watchman
from reconciler.model import Guard, Verdict
from reconciler.plan import Finding, Mode, Policy
from reconciler.weigh import weigh

# What they hold is a zombie, were it not that nothing may be written there.
_SHADOWED = frozenset({Guard.TRUST, Guard.MODE})


class Effect(StrEnum):
    """What another policy would have done."""

    NONE = "the same"
    SOONER = "settled sooner"
    LATER = "settled later"
    NEVER = "never settled"  # not within a day, by time alone
    RESUMED = "resumed once settled"
    NOT_RESUMED = "not resumed once settled"
    RESUMED_SOONER = "resumed sooner"
    RESUMED_LATER = "resumed later"
    OTHERWISE = "judged otherwise"


def judged_under(policy: Policy, line: Line, again: Finding) -> tuple[Finding, Effect, datetime | None]:
    """Decide under another policy, and compare with the finding under the line's own.

    A zombie that only `mode` or `trust` held is compared as if it had been settled, and what would follow that too.
    Gives the other finding, what it changes, and when (ours) it would have been settled, if that is later.
    """
    line = replace(line, breakers=tuple(one for one in line.breakers if one.trips(policy)))
    other, was_shadowed = rejudge(line, policy), is_shadowed(again)
    if other.verdict is Verdict.ZOMBIE:
        settled_before = again.verdict is Verdict.ZOMBIE
        return other, _of_sequels(again, other) if settled_before else Effect.SOONER, None
    if was_shadowed and is_shadowed(other):
        mine, theirs = (rejudge(_in_force(replace(line, policy=one))) for one in (line.policy, policy))
        if (effect := _of_sequels(mine, theirs)) is not Effect.NONE:
            return other, effect, None
    if again.verdict is Verdict.ZOMBIE or (was_shadowed and not is_shadowed(other)):
        changed = replace(line, policy=policy)
        then = forecast_of(_in_force(changed) if was_shadowed else changed).acts_at
        return other, Effect.LATER if then else Effect.NEVER, then
    if other.is_suspect and not again.is_suspect and again.guard is None:  # it would be looked at again at once
        return other, Effect.SOONER if _is_written(other, line, policy) else Effect.OTHERWISE, None
    same = (other.verdict, other.rule, other.guard) == (again.verdict, again.rule, again.guard)
    return other, Effect.NONE if same else Effect.OTHERWISE, None


def _of_sequels(again: Finding, other: Finding) -> Effect:
    """Compare what would follow the settlements."""
    mine, theirs = again.resumption, other.resumption
    if mine is None or theirs is None:
        return Effect.NONE if mine is theirs else Effect.RESUMED if theirs else Effect.NOT_RESUMED
    if mine.delay == theirs.delay:
        return Effect.NONE
    return Effect.RESUMED_SOONER if theirs.delay < mine.delay else Effect.RESUMED_LATER


def is_shadowed(finding: Finding) -> bool:
    return finding.guard in _SHADOWED


def is_stricter(policy: Policy, than: Policy) -> bool:
    """Whether its breaker may have tripped where the other did not: that takes all runs of the pass to tell."""
    return policy.breaker_count < than.breaker_count or policy.breaker_share < than.breaker_share


def _in_force(line: Line) -> Line:
    """The same where something is written."""
    scopes = {name: replace(view, observes=False, distrusted_since=None) for name, view in line.snapshot.scopes.items()}
    policy = replace(line.policy, mode=Mode.SETTLE)
    return replace(line, policy=policy, snapshot=replace(line.snapshot, scopes=scopes))


def _is_written(suspect: Finding, line: Line, policy: Policy) -> bool:
    """Whether nothing that a person has switched would hold the zombie that the suspect may turn out to be."""
    weighed = weigh(line.root or line.case, line.snapshot)  # a subflow is where its root is
    watchman = Watchman(line.snapshot, policy, {})
    switches = (watchman.selection, watchman.opt_out, watchman.trust, watchman.mode)
    return all(speaks(weighed, suspect) is None for speaks in switches)
