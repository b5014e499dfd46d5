"""What `reconcile report` says: how often we were right, how soon, and what to do about it. Pure but for the read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler.grading.casebook import Casebook
from reconciler.grading.cases import Case, Grade, Kind, count_of_incidents
from reconciler.model import Guard

_LISTED = 50  # cases
ENOUGH = 10  # graded would-be settlements, before they are worth a conclusion


@dataclass(frozen=True, slots=True)
class Spread:
    """How lengths of time are spread. `count` is never 0."""

    count: int
    p50: timedelta
    p90: timedelta
    longest: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeScore:
    """Of one scope, by count. `right + false` is what was graded of the would-be settlements."""

    scope: str  # "": verdicts that rest on no scope's word
    right: int = 0
    false: int = 0
    open: int = 0
    ungraded: int = 0
    incidents: int = 0  # behind those graded: the subflows of one run have one
    settlements: int = 0
    false_crashes: int = 0
    unclear: int = 0  # settlements that may have been false crashes
    watched: int = 0  # settlements whose 24 h are not over
    is_observed: bool = False  # nothing is written there: its mode holds what would be
    distrusted_since: datetime | None = None

    @property
    def title(self) -> str:
        return f"scope '{self.scope}'" if self.scope else "subflows whose parents had ended"

    @property
    def shadows(self) -> int:
        return self.graded + self.open + self.ungraded

    @property
    def graded(self) -> int:
        return self.right + self.false

    @property
    def precision(self) -> float | None:
        """None: nothing was graded."""
        return self.right / self.graded if self.graded else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorecard:
    """All cases that are kept. Times are ours."""

    since: datetime | None  # when somebody looked first; None: nobody has
    until: datetime
    scopes: tuple[ScopeScore, ...]
    detection: Spread | None  # from the end, or the last look that found it, to the verdict
    dead_before: int  # cases that died before `since`, which say nothing of how soon we see it
    earlier: Spread | None  # by how much we would have been earlier than those who settled instead
    cases: tuple[Case, ...]  # the newest first
    more: int  # older ones, not listed
    problems: tuple[str, ...] = ()

    @property
    def advice(self) -> str:
        return _advice(self.scopes)


def scorecard(casebook: Casebook, now: datetime) -> Scorecard:
    """Read the casebook. Never raises; what could not be read is among `problems`."""
    casebook.begin()
    cases, distrusted = casebook.cases(), casebook.distrusted()
    since = min((time for time in (casebook.begun(), *(case.judged_at for case in cases)) if time), default=None)
    names = sorted({case.scope for case in cases} | distrusted.keys())
    timed = [case for case in cases if case.died_by is not None and case.grade is not Grade.FALSE]
    later = [case for case in timed if since is not None and case.died_by is not None and case.died_by >= since]
    return Scorecard(
        since=since,
        until=now,
        scopes=tuple(_score(name, cases, distrusted.get(name)) for name in names),
        detection=_spread([case.judged_at - case.died_by for case in later if case.died_by is not None]),
        dead_before=len(timed) - len(later),
        earlier=_spread([case.others_at - case.judged_at for case in cases if case.others_at is not None]),
        cases=tuple(cases[:_LISTED]),
        more=max(0, len(cases) - _LISTED),
        problems=tuple(casebook.problems),
    )


def _score(scope: str, cases: Sequence[Case], distrusted: datetime | None) -> ScopeScore:
    mine = [case for case in cases if case.scope == scope]
    shadows = Counter(case.grade for case in mine if case.kind is Kind.SHADOW)
    settled = Counter(case.grade for case in mine if case.kind is Kind.SETTLED)
    return ScopeScore(
        scope=scope,
        right=shadows[Grade.RIGHT],
        false=shadows[Grade.FALSE],
        open=shadows[Grade.OPEN],
        ungraded=shadows[Grade.UNGRADED] + shadows[Grade.UNCLEAR],
        incidents=count_of_incidents(case.incident for case in mine if case.is_graded_shadow),
        settlements=settled.total(),
        false_crashes=settled[Grade.FALSE],
        unclear=settled[Grade.UNCLEAR],
        watched=sum(case.kind is Kind.SETTLED and case.closed_at is None for case in mine),
        is_observed=_is_observed(mine),
        distrusted_since=distrusted,
    )


def _is_observed(mine: Sequence[Case]) -> bool:
    """By the newest case that tells; a dry run does so only where there was nothing else."""
    telling = [case.kind for case in mine if case.kind is Kind.SETTLED or case.guard == str(Guard.MODE)]
    return (telling or [case.kind for case in mine if not case.guard] or [Kind.SETTLED])[0] is Kind.SHADOW


def _spread(lengths: Sequence[timedelta]) -> Spread | None:
    """Percentiles by nearest rank: each is a length that occurred."""
    if not lengths:
        return None
    ordered = sorted(lengths)
    p50, p90 = (ordered[math.ceil(len(ordered) * share) - 1] for share in (0.5, 0.9))
    return Spread(len(ordered), p50, p90, ordered[-1])


def _advice(scopes: Sequence[ScopeScore]) -> str:
    """What to do, in one sentence."""
    wrong = [_wrong(one) for one in scopes if one.distrusted_since is not None or one.false or one.false_crashes]
    if wrong:
        return "; ".join(wrong)
    graded, observed = sum(one.graded for one in scopes), any(one.is_observed for one in scopes)
    if not observed and any(one.settlements for one in scopes):
        settled = sum(one.settlements for one in scopes)
        return f"none of {settled} settlements was a false crash: leave it as it is"
    if not graded:
        return "no would-be settlement was graded so far: leave it in observe mode, and come back in an hour or more"
    incidents = sum(one.incidents for one in scopes)
    right = f"{graded} of {graded} graded would-be settlements were right"
    if incidents < graded:
        right = f"{right}, the subflows of one run counted once: {incidents}"
    if incidents < ENOUGH:
        enough = f"when there are {ENOUGH}, or if that is enough"
        return f'{right}: that is little to judge by; set mode = "settle" {enough}'
    return f'{right}: set mode = "settle"'


def _wrong(one: ScopeScore) -> str:
    where = one.title
    if one.distrusted_since is not None:
        return f"{where} had false crashes: find out why, then run `reconcile --trust {one.scope}`"
    if one.false_crashes:
        return f"{where}: {one.false_crashes} of {one.settlements} settlements were false crashes: find out why"
    return (
        f"{where}: {one.false} of {one.graded} graded would-be settlements would have been false: "
        'keep mode = "observe" there, and find out why'
    )
