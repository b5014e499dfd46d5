"""What will come of an explained run, as entries of its screen. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from reconciler.account.explained import ForecastTold, SettlementTold
from reconciler.model import Verdict
from reconciler.words import many, moment, span

_STAGES = 4

Entry = tuple[str, str]  # label, text


def future_entries(made: ForecastTold, settlement: SettlementTold | None, now: datetime) -> Iterator[Entry]:
    """Write what is awaited, when it acts, and what else a settlement would do."""
    later = [
        f"{moment(stage.at, now)} {stage.verdict}{f' ({stage.guard})' if stage.guard else ''}: {stage.why}"
        for stage in made.stages[1:_STAGES]
        if stage.verdict is not Verdict.ZOMBIE
    ]
    if later:
        yield "then", "; ".join(later)
    if made.acts_at is not None:
        at = "now" if made.acts_at <= now else f"{moment(made.acts_at, now)}, in {span(made.acts_at - now)}"
        written = settlement.written if settlement else "settled"
        yield "acts", f"if nothing changes: {written} {_by_which(made, at, made.acts_at, now)}"
    else:
        yield "acts", f"not by time alone; needed is {made.needed}{_then(made, now)}"
    if settlement is not None:
        yield "with it", _besides(settlement)


def _then(made: ForecastTold, now: datetime) -> str:
    if made.then_at is None:
        return ""
    at = "now" if made.then_at <= now else f"at {moment(made.then_at, now)}"
    return f"; then {_by_which(made, at, made.then_at, now)}"


def _by_which(made: ForecastTold, at: str, time: datetime, now: datetime) -> str:
    """By which pass: those that stand longer come first, and a pass settles only so many."""
    behind = f"after {made.ahead} that stand longer" if made.ahead else ""
    if not made.passes_before:
        return f"{at}, by the first pass that ends then{f', {behind}' if behind else ''}"
    passes = f"{made.passes_before} more pass{'' if made.passes_before == 1 else 'es'}"
    soonest = f"not before {moment(time, now)}, " if time > now else ""
    return f"{soonest}by the pass that comes after {passes}, {behind}"


def _besides(settlement: SettlementTold) -> str:
    """What would follow the settlement."""
    parts = [
        f"cause {settlement.cause}" if settlement.cause else "",
        f"{many(settlement.subflows, 'subflow')} in flight settled too, the deepest first"
        if settlement.subflows
        else "",
        f"its task runs {'set to Crashed' if settlement.task_runs else 'left as they are'}",
        _resumption(settlement),
        "labels put on the flow run" if settlement.labels else "",
    ]
    return "; ".join(part for part in parts if part)


def _resumption(settlement: SettlementTold) -> str:
    if settlement.resumption_number is None or settlement.resumption_delay_seconds is None:
        return ""
    delay = span(timedelta(seconds=settlement.resumption_delay_seconds))
    return f"then resumed ({settlement.resumption_number} of {settlement.resumption_most}) after {delay}"
