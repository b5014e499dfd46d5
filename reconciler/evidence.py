"""An evidence line per decision that is not HEALTHY or UNMANAGED, written when it changes: enough to decide it again.

A line holds the snapshot cut down to its one run (and the root of an in-process subflow), the policy, and what breaker
and rate, which look at all runs, found in that pass. `rejudge` gives the same finding from the line alone.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from datetime import datetime
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from reconciler.decide import decide_alone
from reconciler.model import Action, Condition, Guard, RunId, Verdict
from reconciler.plan import Breaker, CycleReport, Finding, Judged, Outcome, Policy
from reconciler.snapshot import Case, Snapshot

VERSION = 1
_YEARS = 1900, 9000  # of a line that is read: ages and time zones can be reckoned with
_Kind = TypeVar("_Kind")


@dataclass(frozen=True, kw_only=True)
class Line:
    """One decision with all that it rests on. Times are those of the values within; `written_at` is ours."""

    version: int
    written_at: datetime
    reconciler: str  # its version
    configuration: str  # hash of the settings in force
    dry_run: bool
    run_id: RunId
    name: str
    verdict: Verdict
    rule: str
    guard: Guard | None = None
    reason: str
    scope: str | None = None
    condition: Condition | None = None
    resource: str | None = None
    outcome: Outcome | None = None
    ahead: int = 0  # families of zombies of the pass that would be settled first: what `rate` counts
    breakers: tuple[Breaker, ...] = ()  # those that had tripped in the scopes looked at
    policy: Policy
    snapshot: Snapshot  # of this run; `taken_at` is the one under which it was judged; `roots` has its root

    def __post_init__(self) -> None:
        """Refuse what `decide` could not be given."""
        named = {look.scope for case in _cases(self.snapshot) for look in case.looks}
        if [case.run.id for case in self.snapshot.cases] != [self.run_id] or not named <= self.snapshot.scopes.keys():
            raise ValueError("an evidence line holds one run and the scopes that its looks name")

    @property
    def case(self) -> Case:
        return self.snapshot.cases[0]

    @property
    def root(self) -> Case | None:
        """Inside whose process it runs, as far as that is known."""
        lineage = self.case.lineage
        return self.snapshot.roots.get(lineage.root_id) if lineage and lineage.root_id else None

    @property
    def action(self) -> Action:
        """What a settlement of it writes."""
        return Finding(run=self.case.run, verdict=self.verdict, rule=self.rule, reason=self.reason).action


def rejudge(line: Line, policy: Policy | None = None) -> Finding:
    """Decide the line's run again, under its own policy or another.

    What breaker and rate look at is not in the line but what they found is: the tripped breakers stay tripped, and the
    run keeps its place among the zombies.
    """
    return decide_alone(line.snapshot, policy or line.policy, line.breakers, line.ahead)


def lines_of(
    report: CycleReport, run_ids: Collection[RunId], *, written_at: datetime, reconciler: str, configuration: str
) -> Iterator[Line]:
    """Make the lines of these runs, in the order of the plan. The report must have its snapshot."""
    account = _Account.of(report)
    for finding in report.plan.findings:
        if finding.run.id not in run_ids:
            continue
        seen, snapshot = finding.observation, account.snapshot_of(finding.run.id)
        yield Line(
            version=VERSION,
            written_at=written_at,
            reconciler=reconciler,
            configuration=configuration,
            dry_run=report.dry_run,
            run_id=finding.run.id,
            name=finding.run.name,
            verdict=finding.verdict,
            rule=finding.rule,
            guard=finding.guard,
            reason=finding.reason,
            scope=finding.scope,
            condition=seen.condition if seen else None,
            resource=seen.resource.id if seen and seen.resource else None,
            outcome=report.outcomes.get(finding.run.id),
            ahead=account.ahead_of(finding),
            breakers=tuple(breaker for breaker in report.plan.breakers if breaker.scope in snapshot.scopes),
            policy=report.policy,
            snapshot=snapshot,
        )


@dataclass(frozen=True)
class _Account:
    """What one cycle's lines are made of."""

    report: CycleReport
    snapshot: Snapshot
    judged: Mapping[RunId, Judged]
    queue: list[tuple[datetime, RunId]]  # families of zombies in the order in which `rate` lets them through

    @classmethod
    def of(cls, report: CycleReport) -> _Account:
        if report.snapshot is None:
            raise ValueError("a cycle without a snapshot has decided nothing")
        zombies = (one for one in report.plan.findings if one.verdict is Verdict.ZOMBIE or one.guard is Guard.RATE)
        judged = {one.finding.run.id: one for one in report.plan.judged}
        return cls(report, report.snapshot, judged, sorted({one.head for one in zombies}))

    def ahead_of(self, finding: Finding) -> int:
        return bisect_left(self.queue, finding.head)

    def snapshot_of(self, run_id: RunId) -> Snapshot:
        """Cut the snapshot down to one run and its root, as when it was judged: not always at the last look."""
        judged = self.judged[run_id]
        case, root = judged.weighed.case, judged.root
        cases = (case, root) if root else (case,)
        run_ids, beats, signs = {one.run.id for one in cases}, self.snapshot.heartbeats, self.snapshot.life_signs
        return replace(
            self.snapshot,
            taken_at=judged.at,
            cases=(case,),
            roots={root.run.id: root} if root else {},
            scopes={look.scope: judged.scopes[look.scope] for one in cases for look in one.looks},
            heartbeats={one: beat for one, beat in beats.items() if one in run_ids},
            life_signs={one: sign for one, sign in signs.items() if one in run_ids},
        )


def _cases(snapshot: Snapshot) -> Iterator[Case]:
    yield from snapshot.cases
    yield from snapshot.roots.values()


@dataclass
class Reading:
    """The lines of one file, oldest first. `skipped` counts what is torn, foreign or of another version."""

    path: Path
    skipped: int = field(default=0, init=False)

    def __iter__(self) -> Iterator[Line]:
        """Read anew. Raises OSError if the file cannot be read."""
        self.skipped = 0
        with self.path.open("rb") as file:
            for text in file:
                line = decoded(text)
                if line is not None:
                    yield line
                elif text.strip():
                    self.skipped += 1


def read(path: Path) -> Reading:
    """Give the lines of an evidence file, and afterwards how many were skipped."""
    return Reading(path)


def decoded(text: bytes) -> Line | None:
    """Read a line. None: torn, foreign, of another version, or with a time that is none of a pass."""
    try:
        line = msgspec.json.decode(text, type=Line)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None
    times = (line.written_at, *every((line.snapshot, line.outcome), datetime))
    fit = all(time.tzinfo is not None and _YEARS[0] <= time.year <= _YEARS[1] for time in times)
    return line if fit and line.version == VERSION else None


def every(value: Any, kind: type[_Kind]) -> Iterator[_Kind]:
    """Give everything of that kind in a value of ours, however deep."""
    if isinstance(value, kind):
        yield value
        return
    of: type = type(value)
    if names := _defaults(of):
        for name, _ in names:
            yield from every(getattr(value, name), kind)
    elif isinstance(value, tuple | Mapping):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from every(item, kind)


def encoded(line: Line, redact: Callable[[str], str]) -> bytes:
    """Write a line, its end included.

    `redact` is given each string by itself: over a whole line of JSON a pattern may reach from one string into the
    next, and a secret with a quote in it would not be found.
    """
    return msgspec.json.encode(_plain(line, lambda text: _readable(redact(text)))) + b"\n"


def _plain(value: Any, of_text: Callable[[str], str]) -> Any:
    """Leave out what is as if not given, except in the policy: a later version may have other defaults."""
    kind: type = type(value)
    if isinstance(value, str):
        return value if isinstance(value, Enum) else of_text(str(value))
    if kind in (tuple, list):
        return [_plain(item, of_text) for item in value]
    if kind is dict:
        return {_plain(key, of_text): _plain(item, of_text) for key, item in value.items()}
    if kind is frozenset:
        return sorted((_plain(item, of_text) for item in value), key=str)
    items = ((name, default, getattr(value, name)) for name, default in _defaults(kind))
    given = {name: _plain(item, of_text) for name, default, item in items if item != default or kind is Policy}
    return given or value


@cache
def _defaults(kind: type) -> tuple[tuple[str, object], ...]:
    """Give the fields of a dataclass with their defaults; none for what msgspec writes by itself."""
    return tuple(
        (one.name, one.default if one.default_factory is MISSING else one.default_factory())
        for one in (fields(kind) if is_dataclass(kind) else ())
    )


def _readable(text: str) -> str:
    """Replace what UTF-8 has no form for: half a character in a name that came as JSON."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
