"""Invariants of the decision, over whatever snapshots hypothesis can think of."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.attempts import attempt_of
from reconciler.decide import decide
from reconciler.model import (
    ClockOffset,
    Condition,
    FlowRun,
    Observation,
    Place,
    Sighting,
    StateRecord,
    StateType,
    Verdict,
)
from reconciler.plan import Finding, Mode, Policy, transition_id
from reconciler.snapshot import Case, FirstLook, Look

from .spec import (
    NOW,
    POLICY,
    ago,
    asleep,
    beat,
    case,
    exited,
    first_look,
    gone,
    history,
    look,
    resource,
    run,
    scope,
    sighting,
    snapshot,
)

SECONDS = st.sampled_from([0, 5, 9, 10, 11, 29, 30, 31, 45, 60, 199, 200, 201, 350, 600, 900, 1200])
NAMES = st.sampled_from(["res-1", "res-2"])
STATES = st.sampled_from(["PENDING", "RUNNING", "CANCELLING"])


def sighted(of: FlowRun, scope: str, made: int, last: int, name: str) -> Sighting:
    return replace(sighting(of, scope, made=made, name=name), last_seen=ago(min(made, last)))


@st.composite
def looks(draw: st.DrawFn, of: object, name: str) -> Look:
    observations = draw(st.lists(observation(of), max_size=3))
    sightings = draw(st.lists(st.builds(sighted, st.just(of), st.just(name), SECONDS, SECONDS, NAMES), max_size=2))
    return Look(
        scope=name,
        mapped=draw(st.booleans()),
        ever_seen=bool(sightings) or draw(st.booleans()),
        place=draw(st.sampled_from(list(Place))),
        sightings=tuple(sightings),
        observations=tuple(observations),
        error=draw(st.sampled_from([None, None, None, "refused"])),
    )


@st.composite
def observation(draw: st.DrawFn, of: object) -> Observation:
    condition = draw(st.sampled_from(list(Condition)))
    thing = resource(of, made=draw(SECONDS), name=draw(NAMES))
    bare = condition in (Condition.GONE, Condition.UNKNOWN) and draw(st.booleans())
    ended = draw(st.none() | SECONDS) if condition is Condition.EXITED else None
    return Observation(
        condition=condition,
        reason="is so",
        resource=None if bare else thing,
        exit_code=draw(st.sampled_from([None, 0, 1, 137])),
        ended_at=None if ended is None else ago(ended),
        unseen_end=condition in (Condition.EXITED, Condition.GONE) and draw(st.booleans()),
        needs_sighting=condition is Condition.GONE and draw(st.booleans()),
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    keys = {
        "pid": draw(st.sampled_from(["base:res-1", "base:res-2", "base:elsewhere", None])),
        "work_pool": draw(st.sampled_from(["pool", None])),
    }
    if draw(st.booleans()):
        of = run(draw(STATES), age=draw(SECONDS), **keys)
    else:
        of = asleep(due=draw(st.sampled_from([None, -60, 5, 60])), **keys)  # type: ignore[arg-type]
    began = of.state_since - timedelta(seconds=draw(SECONDS))
    steps = draw(st.lists(st.sampled_from(["PENDING", "RUNNING", "SCHEDULED", "CRASHED"]), max_size=5))
    past = [
        StateRecord(id=uuid4(), type=StateType(s), name=s, timestamp=began - timedelta(seconds=10 * (len(steps) - n)))
        for n, s in enumerate(steps)
    ]
    now = StateRecord(id=of.state_id, type=of.state_type, name=of.state_name, timestamp=of.state_since)
    seen = tuple(draw(looks(of, name)) for name in draw(st.sets(st.sampled_from(["a", "b"]))))
    return Case(
        run=of,
        looks=seen,
        history=draw(st.sampled_from([None, (), (*past, now)])),
        first_look=draw(st.sampled_from([None, *(first_look(t, *seen) for t in (5, 10, 600)), FirstLook(ago(60))])),
    )


@st.composite
def parted(draw: st.DrawFn) -> Case:
    """One thing has ended; what the pid names may be another, which is gone, or was never here."""
    of = run(
        draw(st.sampled_from(["RUNNING", "PENDING"])), pid=draw(st.sampled_from(["base:res-1", "base:res-2", None]))
    )
    ended, absent = exited(of, made=350), gone(of, resource=resource(of, name="res-2"))
    old = sighting(of, made=draw(st.sampled_from([350, 800])), name="res-2")
    where = look(
        *draw(st.sampled_from([[ended], [ended, absent]])),
        mapped=draw(st.booleans()),
        sightings=draw(st.sampled_from([(), (sighting(of),), (sighting(of), old)])),
    )
    second = history(of, ("PENDING", 900), ("RUNNING", 890), ("SCHEDULED", 500), ("PENDING", 360))
    return case(of, where, past=draw(st.sampled_from([None, second])))


@st.composite
def snapshots(draw: st.DrawFn):
    several = draw(st.lists(cases() | parted(), min_size=1, max_size=6))
    views = tuple(
        scope(
            name,
            exclusive=draw(st.booleans()),
            incomplete=draw(st.sampled_from([None, None, "cut short"])),
            lag=timedelta(seconds=draw(st.sampled_from([0, 0, 300]))),
            clock=ClockOffset(
                timedelta(seconds=draw(st.sampled_from([0, -40, 40]))), timedelta(seconds=draw(st.sampled_from([0, 2])))
            ),
            known_since=draw(st.sampled_from([None, ago(50), ago(900)])),
            former_identity=draw(st.sampled_from([None, "x"])),
            pinned=draw(st.booleans()),
            breaker_since=draw(st.sampled_from([None, ago(50), ago(900)])),
        )
        for name in ("a", "b")
    )
    hearts = {one.run.id: beat(draw(SECONDS)) for one in several if draw(st.booleans())}
    return snapshot(*several, scopes=views, heartbeats=hearts, heartbeats_error=draw(st.sampled_from([None, "503"])))


def _zombies(snap: object, policy: Policy = POLICY) -> dict[object, Finding]:
    return {f.run.id: f for f in decide(snap, policy).findings if f.verdict is Verdict.ZOMBIE}  # type: ignore[arg-type]


def _case(snap: object, finding: Finding) -> Case:
    return next(one for one in snap.cases if one.run.id == finding.run.id)  # type: ignore[attr-defined]


@settings(max_examples=200, deadline=None)
@given(snapshots())
def test_every_run_gets_one_verdict_with_a_reason(snap) -> None:
    plan = decide(snap, POLICY)
    assert sorted(f.run.id for f in plan.findings) == sorted(one.run.id for one in snap.cases)
    assert all(f.reason and f.rule for f in plan.findings)
    assert all((f.guard is None) or f.verdict is Verdict.HELD for f in plan.findings)


@settings(max_examples=300, deadline=None)
@given(snapshots())
def test_nothing_is_settled_without_an_end_seen_or_an_absence_that_counts_seen_twice(snap) -> None:
    for finding in _zombies(snap).values():
        one = _case(snap, finding)
        seen = [seen.condition for look in one.looks if look.error is None for seen in look.observations]
        assert not any(condition.is_live for condition in seen)
        assert one.run.state_type in (StateType.RUNNING, StateType.PENDING) or one.run.awaits_retry_in_process
        assert one.history
        assert one.history[-1].id == one.run.state_id
        assert one.first_look is not None, "looked at twice"
        assert snap.taken_at - one.run.state_since >= snap.scopes[finding.scope].lag
        if finding.rule == "6":
            assert Condition.EXITED in seen
        else:
            assert finding.rule == "7"
            assert snap.taken_at - one.first_look.at >= POLICY.confirm_after
            assert finding.scope in one.first_look.absent_from
            where = next(look for look in one.looks if look.scope == finding.scope)
            assert where.sightings or where.place is Place.HERE or (where.mapped and snap.scopes[where.scope].exclusive)
            assert where.place is not Place.ELSEWHERE
            assert where.sightings or not any(seen.needs_sighting for seen in where.observations)
            assert one.run.pid or one.run.work_pool


@settings(max_examples=200, deadline=None)
@given(snapshots())
def test_what_the_pid_names_decides_whose_resource_it_is(snap) -> None:
    """No settlement while the pid names a resource that was neither seen, nor once here, nor must have been here."""
    for finding in _zombies(snap).values():
        one = _case(snap, finding)
        pid = one.run.pid
        known = [seen.resource for look in one.looks for seen in look.observations if seen.resource]
        known += [sighting.resource for look in one.looks for sighting in look.sightings]
        only = [
            look
            for look in one.looks
            if look.place is Place.HERE or (look.mapped and snap.scopes[look.scope].exclusive)
        ]
        assert pid is None or any(thing.is_named_by(pid) for thing in known) or only


@settings(max_examples=300, deadline=None)
@given(snapshots())
def test_the_end_of_a_part_is_not_the_end_of_the_run(snap) -> None:
    """Without a pid only where the run is mapped; with one, not while what it names of this attempt is gone."""
    for finding in _zombies(snap).values():
        one = _case(snap, finding)
        where, pid = next(look for look in one.looks if look.scope == finding.scope), one.run.pid
        ended = finding.observation.resource if finding.rule == "6" else None
        if pid is None:
            assert where.mapped
        elif ended is not None and not ended.is_named_by(pid):
            known = [seen for seen in where.observations if seen.resource and seen.resource.is_named_by(pid)]
            older = [seen for seen in where.sightings if seen.resource.is_named_by(pid)]
            is_gone = any(seen.condition is Condition.GONE for seen in known)
            assert not is_gone or (not attempt_of(one.history).is_only and (older or known))


@settings(max_examples=200, deadline=None)
@given(snapshots())
def test_every_absence_is_one_of_which_the_breaker_takes_its_share(snap) -> None:
    for one in decide(snap, POLICY).judged:
        assert not one.finding.is_absent or one.finding.scope in one.weighed.counted_in


@settings(max_examples=200, deadline=None)
@given(snapshots())
def test_what_nobody_saw_end_is_believed_only_after_its_heartbeats(snap) -> None:
    beating = replace(snap, heartbeats={one.run.id: beat(199) for one in snap.cases})
    for finding in _zombies(beating).values():
        assert finding.observation is None or not finding.observation.unseen_end


@settings(max_examples=200, deadline=None)
@given(snapshots(), st.data())
def test_a_scope_going_blind_never_makes_a_zombie(snap, data) -> None:
    one = data.draw(st.sampled_from(snap.cases))
    blind = tuple(replace(look, observations=(), error="timed out") for look in one.looks)
    worse = replace(snap, cases=tuple(replace(c, looks=blind) if c is one else c for c in snap.cases))
    assert one.run.id not in _zombies(worse)


@settings(max_examples=150, deadline=None)
@given(snapshots())
def test_half_an_answer_or_half_a_list_condemns_nobody_by_absence(snap) -> None:
    cut = replace(snap, scopes={name: replace(view, incomplete="cut short") for name, view in snap.scopes.items()})
    assert all(finding.rule == "6" for finding in _zombies(cut).values())
    assert all(finding.rule == "6" for finding in _zombies(replace(snap, is_whole=False)).values())


@settings(max_examples=150, deadline=None)
@given(snapshots(), st.data())
def test_unknown_never_shortens_a_time(snap, data) -> None:
    """One more UNKNOWN answer about a run never makes it a zombie that it was not."""
    one = data.draw(st.sampled_from(snap.cases))
    doubt = Observation(condition=Condition.UNKNOWN, reason="cannot be read")
    doubted = tuple(replace(look, observations=(*look.observations, doubt)) for look in one.looks)
    worse = replace(snap, cases=tuple(replace(c, looks=doubted) if c is one else c for c in snap.cases))
    assert (one.run.id in _zombies(worse)) <= (one.run.id in _zombies(snap))


@settings(max_examples=150, deadline=None)
@given(snapshots())
def test_a_heartbeat_of_this_moment_always_wins(snap) -> None:
    beating = replace(snap, heartbeats={one.run.id: beat(0) for one in snap.cases})
    for finding in _zombies(beating).values():
        end = finding.observation.ended_at if finding.observation else None
        slack = snap.scopes[finding.scope].clock.uncertainty
        ours = snap.scopes[finding.scope].clock.to_ours(end) if end else _case(snap, finding).first_look.at
        assert ours is not None
        assert ours + slack >= NOW, "only an end later than the beat may stand"


@settings(max_examples=150, deadline=None)
@given(snapshots())
def test_more_patience_never_makes_a_zombie(snap) -> None:
    patient = replace(
        POLICY, grace=2 * POLICY.grace, confirm_after=2 * POLICY.confirm_after, settle_failed=2 * POLICY.settle_failed,
        settle_zero=2 * POLICY.settle_zero, settle_starting=2 * POLICY.settle_starting, quiet=2 * POLICY.quiet,
    )  # fmt: skip
    assert set(_zombies(snap, patient)) <= set(_zombies(snap))


@settings(max_examples=100, deadline=None)
@given(snapshots(), st.randoms())
def test_the_order_of_inputs_is_irrelevant(snap, random) -> None:
    shuffled = list(snap.cases)
    random.shuffle(shuffled)
    turned = tuple(replace(c, looks=tuple(reversed(c.looks))) for c in shuffled)
    first, second = decide(snap, POLICY), decide(replace(snap, cases=turned), POLICY)
    assert [(f.run.id, f.verdict, f.rule, f.guard) for f in first.findings] == [
        (f.run.id, f.verdict, f.rule, f.guard) for f in second.findings
    ]


@settings(max_examples=100, deadline=None)
@given(snapshots())
def test_observe_mode_and_zero_rate_write_nothing(snap) -> None:
    assert not _zombies(snap, replace(POLICY, mode=Mode.OBSERVE))
    assert not _zombies(snap, replace(POLICY, max_settlements=0))


@given(st.uuids(), st.uuids())
def test_one_transition_per_run_and_state(run_id, state_id) -> None:
    assert transition_id(run_id, state_id) == transition_id(run_id, state_id)
    assert transition_id(run_id, state_id) != transition_id(state_id, run_id) or run_id == state_id
