"""One explained run on one screen: lines for a pipe, the same with colours for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from textwrap import wrap

from rich.console import Group, RenderableType
from rich.text import Text

from reconciler.account.explained import (
    AttemptTold,
    DecisionTold,
    Explanation,
    LifeTold,
    LineTold,
    RunTold,
    ScopeTold,
    SeenTold,
    SightingTold,
)
from reconciler.account.family_screen import family_entries
from reconciler.account.future_screen import future_entries
from reconciler.model import OutcomeKind, Place
from reconciler.words import many, moment, span

WIDTH, HEIGHT = 100, 40
_LABEL = 11
_SCOPES, _SEEN, _SIGHTED, _EVIDENCE = 2, 2, 1, 3  # shown; --json has them all
_LONG, _LONG_LINES, _SHORT_LINES = frozenset({"verdict", "guards", "acts"}), 5, 3
_STYLES = {"ZOMBIE": "bold red", "HELD": "yellow", "UNKNOWN": "magenta", "WAITING": "cyan", "HEALTHY": "green"}
_PLACES = {
    Place.HERE: "its pid names this place",
    Place.ELSEWHERE: "its pid points elsewhere",
    Place.UNSAID: "its pid names no place",
}

Entry = tuple[str, str]  # label, text


def as_lines(told: Explanation, width: int = WIDTH, height: int = HEIGHT) -> list[str]:
    """Write lines of at most that width. What does not fit is said to be in --json."""
    lines = [line for label, text in _entries(told) for line in _folded(label, text, max(width, 40))]
    if len(lines) > height:
        lines = [*lines[: height - 1], f"... and {len(lines) - height + 1} more lines: --json has everything"]
    return lines


def renderable(told: Explanation, width: int = WIDTH, height: int = HEIGHT) -> RenderableType:
    """Lay the same out for a terminal: labels and verdicts stand out."""
    return Group(*(_styled(line) for line in as_lines(told, width, height)))


def _styled(line: str) -> Text:
    text = Text(line, no_wrap=True)
    text.stylize("bold", 0, _LABEL)
    for word, style in _STYLES.items():
        if line[_LABEL:].lstrip().startswith(word):
            at = line.index(word)
            text.stylize(style, at, at + len(word))
    return text


def _folded(label: str, text: str, width: int) -> list[str]:
    """Fold to a few lines, all but the first indented."""
    most = _LONG_LINES if label in _LONG else _SHORT_LINES
    # ids are copied, so they stay in one piece
    folded = wrap(text, width - _LABEL, max_lines=most, placeholder=" ...", break_on_hyphens=False) or [""]
    return [f"{label if number == 0 else '':<{_LABEL}}{part}" for number, part in enumerate(folded)]


def _entries(told: Explanation) -> Iterator[Entry]:
    now = told.at
    yield "flow run", f"{told.id}  {told.run.name}" if told.run else told.id
    if told.run:
        yield from _run(told.run, told.attempt, now)
    attempt = _attempt(told.attempt, now) if told.attempt else told.attempt_note
    if told.run:
        yield "attempt", attempt
    yield from family_entries(told, now)
    yield from _scopes(told.scopes, now)
    if told.life:
        yield "life signs", _life(told.life, now)
    if told.decision:
        yield from _decision(told.decision)
    else:
        yield "not judged", told.not_judged
    if told.forecast:
        yield from future_entries(told.forecast, told.settlement, now)
    yield from _ours(told, now)
    for problem in [problem for problem in told.problems if problem != told.not_judged][:1]:
        yield "incomplete", problem


def _run(run: RunTold, attempt: AttemptTold | None, now: datetime) -> Iterator[Entry]:
    named = f" ({run.state_type})" if run.state_type != run.state_name.upper() else ""
    yield "state", f"{run.state_name}{named} {_since(run.since, now)}"
    if run.due:
        yield "due", f"{_due(run.due, now)}{_which(attempt)}"
    queue = f", queue '{run.work_queue}'" if run.work_queue else ""
    worker = f", worker '{run.worker}'" if run.worker else ""
    kind = f" ({run.worker_type})" if run.worker_type else ""
    yield "runs in", f"pool '{run.work_pool}'{kind}{queue}{worker}" if run.work_pool else f"no work pool{worker}"
    tags = f"; tags {', '.join(run.tags)}" if run.tags else ""
    yield "pid", f"{run.pid or 'none'}{tags}"


def _due(due: datetime, now: datetime) -> str:
    return f"{moment(due, now)}, {f'in {span(due - now)}' if due > now else f'{span(now - due)} ago'}"


def _which(attempt: AttemptTold | None) -> str:
    """Which resumption of ours is due."""
    if attempt is None or not attempt.awaits_resumption:
        return ""
    number, most = len(attempt.resumed_by_us), attempt.resumptions_most
    of = f" of {most}" if number <= most else ""  # the policy may have been another then
    return f"; {number}{of}, resumed by us"


def _attempt(attempt: AttemptTold, now: datetime) -> str:
    crashed = [f"crashed by us at {moment(time, now)}" for time in attempt.crashed_by_us[-1:]]
    again = attempt.resumed_by_us
    crashed += [f"resumed by us {len(again)} time{'s'[: len(again) > 1]}, last {_ago(again[-1], now)}"] if again else []
    states = f"{attempt.states} state{'' if attempt.states == 1 else 's'} in its history"
    return ", ".join([f"number {attempt.number}, began {_ago(attempt.began, now)}", states, *crashed])


def _scopes(scopes: Iterable[ScopeTold], now: datetime) -> Iterator[Entry]:
    asked = sorted((one for one in scopes if one.asked), key=_importance)
    for one in asked[:_SCOPES]:
        yield from _scope(one, now)
    others = [f"'{one.name}' ({_short(one)})" for one in asked[_SCOPES:]]
    others += [f"'{one.name}' (not asked: {one.mapping or 'not mapped'})" for one in scopes if not one.asked]
    if others:
        yield "scopes", "; ".join(others)


def _importance(one: ScopeTold) -> tuple[bool, bool, bool, str]:
    """Who saw something, or could not tell, comes first."""
    return not one.seen and not one.error, one.absence is None, not one.mapped, one.name


def _short(one: ScopeTold) -> str:
    return ", ".join(sorted({seen.condition for seen in one.seen})) or one.error or "saw nothing"


def _scope(one: ScopeTold, now: datetime) -> Iterator[Entry]:
    known = f", known for {span(now - one.known_since)}" if one.known_since else ""
    identity = f" {one.identity}{' (pinned)' if one.pinned else ''}" if one.identity else " identity unknown"
    yield "scope", f"'{one.name}' ({one.adapter}){identity}{known}{_standing(one, now)}"
    mapped = f"{'mapped' if one.mapped else 'not mapped'}{f' ({one.mapping})' if one.mapping else ''}"
    counts = f"its absence would count: {one.absence}" if one.absence else "its absence would not count"
    place = f"; {_PLACES[one.place]}" if one.place else ""
    yield "  claim", f"{mapped}{place}; {counts}, {one.absence_text}"
    if one.error:
        yield "  error", one.error
    for seen in one.seen[:_SEEN]:
        yield "  sees", _seen(seen, now)
    for sighting in one.sightings[:_SIGHTED]:
        yield "  sighted", _sighting(sighting, now)


def _standing(one: ScopeTold, now: datetime) -> str:
    """What else weighs on the scope."""
    parts = [
        "mode observe" if one.observes else "",
        f"not trusted since {moment(one.distrusted_since, now)}" if one.distrusted_since else "",
        f"answers again for {span(now - one.back_since)}" if one.back_since else "",
        f"its clock is off by {one.clock_offset_seconds:+.0f} s" if abs(one.clock_offset_seconds) >= 1 else "",
    ]
    return "".join(f"; {part}" for part in parts if part)


def _seen(seen: SeenTold, now: datetime) -> str:
    when = f" at {_ago(seen.ended_at, now)}" if seen.ended_at else ""
    node = f"; node {seen.node}" if seen.node else ""
    unseen = "; nobody saw it end" if seen.unseen_end else ""
    return f"{seen.condition}: {seen.text}{when}{node}{unseen}"


def _sighting(one: SightingTold, now: datetime) -> str:
    alive = f", alive {_ago(one.live_seen, now)}" if one.live_seen else ""
    return f"{one.text}; first {_ago(one.first_seen, now)}, last {_ago(one.last_seen, now)}{alive}"


def _life(life: LifeTold, now: datetime) -> str:
    every = f", one every {life.cadence_seconds:.0f} s" if life.cadence_seconds else ""
    beats = (
        [f"{many(life.heartbeats, 'heartbeat')} within the hour, the last {_ago(life.last, now)}{every}"]
        if life.last
        else []
    )
    signs = [f"last {life.sign} {_ago(life.sign_at, now)}"] if life.sign and life.sign_at else []
    return "; ".join([*beats, *signs, *([life.note] if life.note else [])]) or "none of late"


def _decision(decision: DecisionTold) -> Iterator[Entry]:
    guard = f", held by '{decision.guard}'" if decision.guard else ""
    yield "verdict", f"{decision.verdict}{guard}: {decision.reason}"
    yield "rule", f"{decision.rule}: {decision.rule_text}"
    if decision.guards:
        speaking = [f"{one.guard} ({one.why})" for one in decision.guards if one.why]
        silent = [str(one.guard) for one in decision.guards if not one.why]
        quiet = [f"nothing to say: {', '.join(silent)}"] if silent else []
        yield "guards", "; ".join([*(f"holds: {text}" for text in speaking), *quiet])
    for breaker in decision.breakers[:1]:
        yield "breaker", breaker


def _ours(told: Explanation, now: datetime) -> Iterator[Entry]:
    shown = told.evidence[-_EVIDENCE:]
    for line in shown:
        yield "evidence", _line(line, now)
    done = [line for line in told.settlements if line not in shown]
    for line in done[-2:]:
        yield "settled", _line(line, now)
    if told.evidence_note:
        yield "evidence", told.evidence_note
    elif not shown:
        yield "evidence", "none of this run"


def _line(line: LineTold, now: datetime) -> str:
    what = f"{line.verdict} (rule {line.rule}{f', {line.guard}' if line.guard else ''}{', dry run' * line.dry_run})"
    done = ""
    if line.outcome is not None:
        detail = f", {line.detail}" if line.detail else ""
        done = line.written if line.outcome is OutcomeKind.ACCEPTED else line.outcome.lower().replace("_", " ")
        done = f" -> {done}{detail}"
    return f"{moment(line.written_at, now)} {what}{done}: {line.reason}"


def _since(time: datetime, now: datetime) -> str:
    return f"since {moment(time, now)}, for {span(now - time)}"


def _ago(time: datetime, now: datetime) -> str:
    away = f"{span(now - time)} ago" if time <= now else f"in {span(time - now)}"
    return f"{moment(time.astimezone(UTC), now)} ({away})"
