"""What came of a replay, in words: a line for each decision that differs, and the sum of all. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from reconciler.account.policies import Effect, is_shadowed, is_stricter
from reconciler.account.replay import Replayed, Result
from reconciler.model import RunId
from reconciler.plan import Finding
from reconciler.settings import durations
from reconciler.words import clipped, dated, legible, span

_WHAT = {  # in the order of the summary
    Effect.SOONER: "would have been settled sooner, or settled at all",
    Effect.LATER: "would have been settled later",
    Effect.NEVER: "would not have been settled within 24 h",
    Effect.RESUMED: "would have been resumed once settled",
    Effect.NOT_RESUMED: "would not have been resumed once settled",
    Effect.RESUMED_SOONER: "would have been resumed sooner",
    Effect.RESUMED_LATER: "would have been resumed later",
    Effect.OTHERWISE: "would have been judged otherwise, and not settled either way",
}


_BREAKER = "A stricter breaker looks at all runs of a pass, and a line holds one: what it would have held is not told."
_AS_IF_SETTLED = frozenset(Effect) - {Effect.NONE, Effect.SOONER, Effect.OTHERWISE}
_SHADOWED = "What `mode` or `trust` held is compared as if it had been settled."
_RATE = "How many one pass settles (max_settlements) was not considered: so many would have taken more than one."


@dataclass
class Tally:
    """Counts. Bounded by the runs that the evidence names."""

    results: dict[Result, int] = field(default_factory=lambda: dict.fromkeys(Result, 0))
    effects: dict[Effect, set[RunId]] = field(default_factory=lambda: {effect: set() for effect in Effect})
    changed: int = 0  # decisions that another policy would have made otherwise
    cautions: set[str] = field(default_factory=set)  # what the effects do not tell
    fits: int | None = None  # so many more could be settled by the fullest pass
    runs: set[RunId] = field(default_factory=set)
    first: datetime | None = None
    last: datetime | None = None

    def note(self, replayed: Replayed) -> None:
        line = replayed.line
        self.results[replayed.result] += 1
        self.effects[replayed.effect].add(line.run_id)
        self.changed += replayed.effect is not Effect.NONE
        self._caution(replayed)
        self.runs.add(line.run_id)
        self.first = min(self.first or line.written_at, line.written_at)
        self.last = max(self.last or line.written_at, line.written_at)

    def _caution(self, replayed: Replayed) -> None:
        line, policy = replayed.line, replayed.other_policy
        if policy is None:
            return
        self.cautions |= {_BREAKER} if is_stricter(policy, line.policy) else set()
        if is_shadowed(replayed.again) and replayed.effect in _AS_IF_SETTLED:
            self.cautions.add(_SHADOWED)
        fits = policy.max_settlements - line.ahead
        self.fits = fits if self.fits is None else min(self.fits, fits)
        if replayed.effect is Effect.SOONER and len(self.effects[Effect.SOONER]) > self.fits:
            self.cautions.add(_RATE)

    @property
    def is_reproduced(self) -> bool:
        """No decision, nor its text, is another than the recorded one; what was hidden cannot be compared."""
        return not self.results[Result.DIFFERENT]

    def lines(self, skipped: int, changes: Mapping[str, object]) -> Iterator[str]:
        """Say what came of it. `skipped` and `changes` are the replay's."""
        total = sum(self.results.values())
        when = f", {dated(self.first)} to {dated(self.last)}" if self.first and self.last else ""
        came = (
            ", ".join(f"{count:,} {result}" for result, count in self.results.items() if count) or "nothing to decide"
        )
        yield f"{_many(total, 'line')} of {_many(len(self.runs), 'run')}{when}: {came}."
        if skipped:
            yield f"{_many(skipped, 'line')} skipped: torn, foreign, odd, or of another version of the format."
        if changes:
            yield f"with {_changes(changes)}: {self._effects()}."
            yield from sorted(self.cautions)

    def _effects(self) -> str:
        told = [f"{_many(len(self.effects[one]), 'run')} {what}" for one, what in _WHAT.items() if self.effects[one]]
        if not told:
            return "no decision would have been another"
        return f"{_many(self.changed, 'decision')} would have been different: " + "; ".join(told)


def told(replayed: Replayed) -> Iterator[str]:
    """Say in what a line is not reproduced, and what another policy would have decided instead."""
    line, where = replayed.line, f"{replayed.record.path.name}:{replayed.record.number}"
    who = f"{line.run_id} {_plain(line.name, 40)}"
    if replayed.result is not Result.SAME:
        yield _plain(f"{where}  {who}: {replayed.result}: {'; '.join(replayed.differences)}", 1000)
    if replayed.other is not None and replayed.effect is not Effect.NONE:
        when = f" at {dated(replayed.settled_at)}" if replayed.settled_at else ""
        change = f"{_decision(replayed.again)} -> {_decision(replayed.other)}"
        reason = _plain(replayed.other.reason, 400)
        yield f"{where}  {dated(line.snapshot.taken_at)}  {who}: {change}, {replayed.effect}{when}: {reason}"


def _plain(text: str, limit: int) -> str:
    return legible(clipped(text, limit))


def _decision(finding: Finding) -> str:
    guard = f", {finding.guard}" if finding.guard else ""
    planned = finding.resumption
    resumed = f", resumed {planned.number} of {planned.most} after {span(planned.delay)}" if planned else ""
    return f"{finding.verdict} (rule {finding.rule}{guard}{resumed})"


def _changes(changes: Mapping[str, object]) -> str:
    return ", ".join(f"{key}={_plain(_value(value), 100)}" for key, value in changes.items())


def _value(value: object) -> str:
    if isinstance(value, timedelta):
        return durations.text(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, frozenset):
        return ",".join(sorted(map(str, value)))
    return str(value.value if isinstance(value, Enum) else value)


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
