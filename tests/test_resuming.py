"""Which settled runs are started again: how often, when, and never what."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from reconciler.model import Cause, FlowRun, Guard, StateRecord, StateType, Verdict
from reconciler.plan import RESUMED_CAUSES, Finding, Policy, Resumption, resumption_id, transition_id
from reconciler.resuming import times_resumed
from reconciler.snapshot import Case

from .spec import ago, alive, asleep, case, exited, gone, history, inside, judged, look, run, sighting, subflow

POLICY = Policy(resume_max=3, resume_work_pools=frozenset({"pool"}))
DEPLOYMENT = uuid4()


def record(type_: str, seconds: float, transition: UUID | None = None) -> StateRecord:
    return StateRecord(id=uuid4(), type=StateType(type_), name=type_, timestamp=ago(seconds), transition_id=transition)


def resumed_before(of: FlowRun, times: int, *, by_us: bool = True) -> tuple[StateRecord, ...]:
    """Its history: so many crashes, each followed by a resumption, and then the attempt of now."""
    past = [record("PENDING", 9000), record("RUNNING", 8990)]
    for number in range(times):
        crash = record("CRASHED", 8000 - 100 * number, uuid4())
        again = record("SCHEDULED", 7990 - 100 * number, resumption_id(of.id, crash.id) if by_us else uuid4())
        past += [crash, again, record("PENDING", 7980 - 100 * number), record("RUNNING", 7970 - 100 * number)]
    now = StateRecord(id=of.state_id, type=of.state_type, name=of.state_name, timestamp=of.state_since)
    return (*past[:-1], now)


def removed(times: int = 0, *, by_us: bool = True, **changes: object) -> Case:
    of = run(**({"deployment_id": DEPLOYMENT} | changes))  # type: ignore[arg-type]
    return case(of, look(gone(of), sightings=(sighting(of),)), past=resumed_before(of, times, by_us=by_us))


def of(one: Case, policy: Policy = POLICY, **kw: object) -> Finding:
    finding = judged(one, policy=policy, **kw)[one.run.id]  # type: ignore[arg-type]
    return finding


def test_the_count_is_read_from_the_history() -> None:
    for before in range(3):
        assert of(removed(before)).resumption == Resumption(before + 1, 3, timedelta(seconds=30 * 2**before))


@pytest.mark.parametrize("before", [3, 4])
def test_then_it_is_enough_and_it_is_still_settled(before: int) -> None:
    finding = of(removed(before))
    assert (finding.verdict, finding.resumption) == (Verdict.ZOMBIE, None)
    assert finding.reason.endswith(f"; not started again: {before} of 3 times are used")


def test_retries_of_others_are_not_counted() -> None:
    """A person's, an automation's: any other transition than the one that follows from the crash before it."""
    assert of(removed(5, by_us=False)).resumption == Resumption(1, 3, timedelta(seconds=30))
    one, other = run(), run()
    assert times_resumed(one.id, resumed_before(one, 2)) == 2
    assert times_resumed(other.id, resumed_before(one, 2)) == 0
    assert times_resumed(one.id, ()) == 0


def test_only_what_follows_a_crash_is_a_resumption() -> None:
    failed, r = record("FAILED", 800), run()
    again = record("SCHEDULED", 790, resumption_id(r.id, failed.id))
    assert times_resumed(r.id, (failed, again)) == 0


def test_the_delay_doubles_up_to_an_hour() -> None:
    patient = replace(POLICY, resume_max=1000)
    delays = [found.delay.total_seconds() for n in (0, 1, 6, 7, 40) if (found := of(removed(n), patient).resumption)]
    assert delays == [30, 60, 1920, 3600, 3600]


def test_off_nothing_is_resumed() -> None:
    for policy in (Policy(), replace(POLICY, resume_max=0), Policy(resume_max=3)):
        finding = of(removed(), policy)
        assert (finding.verdict, finding.resumption) == (Verdict.ZOMBIE, None)
        assert "not resumed" not in finding.reason


@pytest.mark.parametrize("cause", list(Cause))
def test_the_cause_decides(cause: Cause) -> None:
    r = run(deployment_id=DEPLOYMENT)
    one = case(r, look(replace(exited(r), cause=cause)))
    assert (of(one).resumption is not None) == (cause in RESUMED_CAUSES)
    asked = replace(POLICY, resume_causes=frozenset({cause}))
    assert of(one, asked).resumption is not None
    assert (of(removed(), asked).resumption is not None) == (cause is Cause.REMOVED)


def test_a_pool_or_a_tag_chooses() -> None:
    tagged = Policy(resume_max=1, resume_tags=frozenset({"again"}))
    assert of(removed(), tagged).resumption is None
    assert of(removed(tags=frozenset({"again", "eu"})), tagged).resumption is not None
    other = replace(tagged, resume_work_pools=frozenset({"other"}))
    assert of(removed(work_pool="other", tags=frozenset()), other).resumption is not None
    assert of(removed(), other).resumption is None


@pytest.mark.parametrize("never", [{"deployment_id": None}, {"parent_task_run_id": uuid4()}], ids=str)
def test_never_without_a_deployment_nor_a_subflow(never: dict[str, object]) -> None:
    finding = of(removed(**never))  # type: ignore[arg-type]
    assert (finding.verdict, finding.resumption) == (Verdict.ZOMBIE, None)


def test_never_what_runs_inside() -> None:
    one, s = removed(), subflow(tags=frozenset({"again"}))
    policy = replace(POLICY, resume_tags=frozenset({"again"}))
    found = judged(one, inside(s, one.run), policy=policy)
    assert found[one.run.id].resumption is not None
    assert (found[s.id].verdict, found[s.id].resumption) == (Verdict.ZOMBIE, None)


def test_asleep_it_is_resumed_like_any_other() -> None:
    r = asleep(due=900, deployment_id=DEPLOYMENT)
    assert of(case(r, look(gone(r), sightings=(sighting(r),)))).resumption is not None


def test_what_is_not_written_is_not_resumed() -> None:
    r = run(deployment_id=DEPLOYMENT)
    assert of(case(r, look(alive(r)))).resumption is None
    held = of(removed(), replace(POLICY, exclude_work_pools=frozenset({"pool"})))
    assert (held.guard, held.resumption) == (Guard.OPT_OUT, None)
    rated = of(removed(), replace(POLICY, max_settlements=0))
    assert (rated.guard, rated.resumption) == (Guard.RATE, None)
    first = replace(removed(), first_look=None)
    assert of(first).resumption is None


def test_we_crashed_this_attempt_before_so_it_is_not_even_settled() -> None:
    """Then it came back by itself: that is no resumption of ours, and a second one would run beside it."""
    one = removed()
    assert one.history is not None
    past = history(one.run, ("PENDING", 9000), ("RUNNING", 8990))
    crash = record("CRASHED", 8000, transition_id(one.run.id, past[1].id))
    finding = of(replace(one, history=(*past[:2], crash, past[-1])))
    assert finding.verdict is not Verdict.ZOMBIE
    assert finding.resumption is None
