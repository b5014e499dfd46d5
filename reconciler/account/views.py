"""What each scope claims of one run, and what it saw of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from reconciler.account.explained import ScopeTold, SeenTold, SightingTold
from reconciler.account.forms import NAME, Form
from reconciler.evidence import Line
from reconciler.model import AbsenceCounts, Condition, FlowRun, Observation, RunMapping, Sighting, StateRecord
from reconciler.sentences import sentence
from reconciler.snapshot import Case, Look, ScopeView, Snapshot
from reconciler.weigh import weigh

_MOST = 5  # resources of one scope
_COUNTS = {
    AbsenceCounts.SIGHTED: "it was seen here in this attempt",
    AbsenceCounts.LOCATED: "its infrastructure_pid names this place",
    AbsenceCounts.EXCLUSIVE: "the configuration says that it can be nowhere else (exclusive)",
}


def scopes_told(
    line: Line,
    history: tuple[StateRecord, ...],
    mappings: Mapping[str, RunMapping],
    scopes: Sequence[ScopeView],
    form: Form,
) -> tuple[ScopeTold, ...]:
    """Tell of every scope of the pass; the looks are those of the line's one run, or of the root of a subflow.

    `history` is the run's own.
    """
    case = line.root or replace(line.case, history=line.case.history or history or None)
    looks = {look.scope: look for look in case.looks}
    return tuple(
        _scope(line.snapshot.scopes.get(view.name, view), looks.get(view.name), case, line.snapshot, mappings, form)
        for view in scopes
    )


def _scope(
    view: ScopeView, look: Look | None, case: Case, snapshot: Snapshot, mappings: Mapping[str, RunMapping], form: Form
) -> ScopeTold:
    counts, why = _absence(look, case, snapshot) if look else (None, "")
    mapping, run = mappings.get(view.name), case.run
    error = (look.error if look else None) or view.error or view.incomplete
    return ScopeTold(
        name=form.text(view.name, NAME),
        adapter=form.text(view.adapter, NAME),
        identity=form.maybe(view.identity),
        pinned=view.pinned,
        known_since=form.when(view.known_since),
        error=form.maybe(error, 500),
        observes=view.observes,
        distrusted_since=form.when(view.distrusted_since),
        back_since=form.when(view.back_since),
        started=form.when(view.started),
        clock_offset_seconds=view.clock.offset.total_seconds(),
        asked=look is not None,
        mapped=look.mapped if look else bool(mapping and mapping.covers(run)),
        mapping=form.text(_mapping(run, mapping), 300) if mapping else "",
        place=look.place if look else None,
        absence=counts,
        absence_text=form.text(why, 500),
        seen=tuple(_seen(one, view, form) for one in look.observations[:_MOST]) if look else (),
        sightings=tuple(_sighting(one, form) for one in _newest(look)) if look else (),
    )


def _absence(look: Look, case: Case, snapshot: Snapshot) -> tuple[AbsenceCounts | None, str]:
    """What it would mean if nothing of the run were there. Weighed as if it were so."""
    gone = [seen for seen in look.observations if seen.condition is Condition.GONE]
    missing = tuple(gone or [Observation(condition=Condition.GONE, reason="was not found")])
    without = replace(look, observations=missing, error=None)
    absent = next(iter(weigh(replace(case, looks=(without,)), snapshot).absent), None)
    if absent is None:
        return None, "it was only asked whether it shows a live resource: not mapped to it, and never seen there"
    return absent.counts, _COUNTS[absent.counts] if absent.counts else absent.why_not


def _mapping(run: FlowRun, mapping: RunMapping) -> str:
    """Which of its kinds map the run, or the first that does not."""
    kinds: tuple[tuple[str, frozenset[str], frozenset[str]], ...] = (
        ("work pool", mapping.work_pools, _one(run.work_pool)),
        ("work queue", mapping.work_queues, _one(run.work_queue)),
        ("worker", mapping.workers, _one(run.worker)),
        ("tag", mapping.tags, run.tags),
    )
    if not mapping.is_explicit:
        kinds = (("worker type", mapping.worker_types, _one(run.worker_type)),)
        if run.pool_names_place:
            return "its work pool says itself where it runs, so only `work_pools` maps it"
    if mapping.covers(run):
        return "by " + " and ".join(f"{kind} {_quoted(asked & mine)}" for kind, asked, mine in kinds if asked)
    kind, asked, mine = next(one for one in kinds if one[1].isdisjoint(one[2]) and (one[1] or not mapping.is_explicit))
    return f"its {kind} is {_quoted(mine) or 'not known'}, asked for is {_quoted(asked) or 'none'}"


def _one(name: str | None) -> frozenset[str]:
    return frozenset() if name is None else frozenset({name})


def _quoted(names: frozenset[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names)[:_MOST])


def _seen(seen: Observation, view: ScopeView, form: Form) -> SeenTold:
    thing, to_ours = seen.resource, view.clock.to_ours
    return SeenTold(
        condition=seen.condition,
        text=form.text(sentence(seen), 300),
        resource=form.maybe(thing.id) if thing else None,
        node=form.maybe(thing.node) if thing else None,
        exit_code=seen.exit_code,
        created_at=form.time(to_ours(thing.created_at)) if thing and thing.created_at else None,
        ended_at=form.time(to_ours(seen.ended_at)) if seen.ended_at else None,
        unseen_end=seen.unseen_end,
    )


def _newest(look: Look) -> Iterator[Sighting]:
    yield from sorted(look.sightings, key=lambda one: (one.last_seen, one.resource.id), reverse=True)[:_MOST]


def _sighting(one: Sighting, form: Form) -> SightingTold:
    return SightingTold(
        text=form.text(f"{one.resource.title} {one.reason}", 300),
        resource=form.text(one.resource.id, NAME),
        node=form.maybe(one.resource.node),
        first_seen=form.time(one.first_seen),
        last_seen=form.time(one.last_seen),
        live_seen=form.when(one.live_seen),
        ended_seen=form.when(one.ended_seen),
    )
