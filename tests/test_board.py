"""What the board keeps, and when the probes turn red."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from reconciler.board import Board
from reconciler.model import Action, Condition, FlowRun, Guard, Observation, OutcomeKind, Resource, StateType, Verdict
from reconciler.news import News
from reconciler.plan import CycleReport, Finding, Orphan, Outcome, Plan, Resumption, Settled
from reconciler.shown import ORPHANS, REASONS, ROWS, SETTLEMENTS
from reconciler.snapshot import Case, ScopeView, Snapshot
from reconciler.testing import flow_run

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SEES = ScopeView(name="prod-7", adapter="docker", identity="4c0f2c1e-engine", mapped=12, sighted=9)


def finding(verdict: Verdict, reason: str = "it is so", *, guard: Guard | None = None, **changes: object) -> Finding:
    """Judge a new flow run."""
    run = flow_run("tcp://localhost:016aa6b2b5b6", **changes)
    resource = Resource(id=f"016aa6b2b5b6-{run.id}", title="Docker container 016aa6b2b5b6", run_id=run.id)
    seen = Observation(condition=Condition.EXITED, reason="exited with code 137", resource=resource, exit_code=137)
    return Finding(run=run, verdict=verdict, rule="6", reason=reason, scope="prod-7", observation=seen, guard=guard)


def report(
    findings: Sequence[Finding] = (),
    outcomes: Mapping[UUID, Outcome] | None = None,
    **changes: object,
) -> CycleReport:
    """One whole pass, over one scope that sees."""
    values: dict[str, object] = {
        "taken_at": NOW - timedelta(seconds=2),
        "duration": timedelta(seconds=2),
        "api_url": "http://127.0.0.1:4200/api",
        "api_calls": 3,
        "server_version": "3.8.8",
        "scopes": (SEES,),
        "plan": Plan(findings=tuple(findings)),
        "outcomes": outcomes or {},
        "problems": (),
        "warnings": (),
        "dry_run": False,
        "was_listed": True,
    }
    return CycleReport(**(values | changes))  # type: ignore[arg-type]


def snapshot(runs: Sequence[FlowRun] = (), *, is_whole: bool = True) -> Snapshot:
    return Snapshot(taken_at=NOW, cases=tuple(Case(run=run) for run in runs), scopes={}, is_whole=is_whole)


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(clock: Clock) -> Board:
    return Board(api_url="http://127.0.0.1:4200/api", patience=90, monotonic=clock)


def settle(board: Board, kind: OutcomeKind, *zombies: Finding, at: datetime = NOW, detail: str = "") -> None:
    outcomes = {zombie.run.id: Outcome(kind, detail) for zombie in zombies}
    board.note(News(report(zombies, outcomes, taken_at=at - timedelta(seconds=2))))


def test_before_the_first_pass_it_lives_and_does_not_see(board: Board) -> None:
    assert board.health.ok
    assert board.readiness.reasons == ("no pass has ended yet",)
    assert board.shown.last is None
    assert board.shown.settlements == ()
    assert board.shown.ago is None


def test_a_complete_pass_makes_it_ready(board: Board, clock: Clock) -> None:
    board.note(News(report([finding(Verdict.HEALTHY)])))
    clock.seconds += 12
    assert board.health.ok
    assert board.readiness.ok
    assert board.shown.ago == timedelta(seconds=12)


def test_both_probes_turn_red_when_no_first_pass_ends(board: Board, clock: Clock) -> None:
    clock.seconds += 90
    assert board.health.ok
    clock.seconds += 1
    assert board.health.reasons == ("no pass has ended for 91 s; one is due at least every 90 s",)
    assert board.readiness.reasons == board.health.reasons


def test_both_probes_turn_red_when_passes_stop_and_green_when_one_ends(board: Board, clock: Clock) -> None:
    board.note(News(report()))
    clock.seconds += 300
    assert board.health.reasons == ("no further pass has ended for 5 min; one is due at least every 90 s",)
    assert board.readiness.reasons == board.health.reasons
    board.note(News(report()))
    assert board.health.ok
    assert board.readiness.ok


def test_a_failed_cycle_ended_and_saw_nothing(board: Board, clock: Clock) -> None:
    board.note(News(report([finding(Verdict.HELD)])))
    clock.seconds += 80
    board.failed("a bug of ours: ZeroDivisionError: division by zero")
    clock.seconds += 80
    assert board.health.ok
    assert board.readiness.reasons == ("a bug of ours: ZeroDivisionError: division by zero",)
    assert board.shown.last is not None
    board.note(News(report()))
    assert board.readiness.ok
    assert board.shown.failure is None


def test_a_pass_that_could_not_list_is_blind_with_its_reason(board: Board) -> None:
    asked = replace(SEES, error="it was not asked, since the flow runs could not be listed")
    why = "the in-flight flow runs could not be listed: connection refused"
    board.note(News(report(problems=(why,), was_listed=False, scopes=(asked,))))
    assert board.readiness.reasons == (why,)
    assert board.health.ok


def test_a_list_that_broke_off_is_blind(board: Board) -> None:
    board.note(News(report(problems=("page 3 did not come",), snapshot=snapshot(is_whole=False))))
    assert board.readiness.reasons == ("the list of in-flight flow runs broke off: page 3 did not come",)


def test_each_blind_scope_is_named_with_its_reason(board: Board) -> None:
    scopes = (
        SEES,
        ScopeView(name="prod-8", adapter="docker", error="connection refused"),
        ScopeView(name="batch", adapter="kubernetes", incomplete="namespace 'etl' may not be read"),
    )
    board.note(News(report(scopes=scopes)))
    assert board.readiness.reasons == (
        "scope 'prod-8' could not be read: connection refused",
        "scope 'batch' could not be read: namespace 'etl' may not be read",
    )


def test_other_problems_do_not_blind(board: Board) -> None:
    board.note(News(report(problems=("flow run x was not settled: refused",))))
    assert board.readiness.ok


def test_a_refused_configuration_is_shown_until_one_is_accepted(board: Board) -> None:
    board.refused(["policy.grace: is not a duration"])
    board.note(News(report()))
    assert board.shown.configuration_problems == ("policy.grace: is not a duration",)
    assert board.readiness.ok
    board.accepted()
    assert not board.shown.configuration_problems


def test_it_counts_verdicts_and_keeps_rows_of_those_in_doubt_the_worst_first(board: Board) -> None:
    verdicts = [Verdict.HEALTHY, Verdict.WAITING, Verdict.UNMANAGED, Verdict.HELD, Verdict.UNKNOWN, Verdict.ZOMBIE]
    findings = [finding(verdict) for verdict in verdicts]
    held = findings[3].run.id
    board.note(News(report([*findings, finding(Verdict.HEALTHY).noted()]), (), {held: NOW - timedelta(hours=3)}))
    last = board.shown.last
    assert last is not None
    assert [row.verdict for row in last.rows] == ["ZOMBIE", "HELD", "UNKNOWN", "WAITING", "HEALTHY"]
    assert last.counts[Verdict.HEALTHY] == 2
    assert last.counts[Verdict.UNMANAGED] == 1
    assert last.rows[1].since == NOW - timedelta(hours=3)
    assert last.unmanaged == (("it is so", 1),)


def test_what_was_settled_is_no_longer_in_doubt_what_was_not_is(board: Board) -> None:
    done, failed = finding(Verdict.ZOMBIE), finding(Verdict.ZOMBIE)
    outcomes = {done.run.id: Outcome(OutcomeKind.ACCEPTED, ""), failed.run.id: Outcome(OutcomeKind.FAILED, "no answer")}
    board.note(News(report([done, failed], outcomes)))
    last = board.shown.last
    assert last is not None
    assert [(row.run_id, row.outcome) for row in last.rows] == [(failed.run.id, OutcomeKind.FAILED)]


def test_rows_and_reasons_are_bounded(board: Board) -> None:
    held = [finding(Verdict.HELD) for _ in range(ROWS + 7)]
    unmanaged = [finding(Verdict.UNMANAGED, f"reason {number}") for number in range(REASONS + 3)]
    common = [finding(Verdict.UNMANAGED, "the common one") for _ in range(4)]
    board.note(News(report([*held, *unmanaged, *common])))
    last = board.shown.last
    assert last is not None
    assert (len(last.rows), last.more_rows) == (ROWS, 7)
    assert last.unmanaged[0] == ("the common one", 4)
    assert (len(last.unmanaged), last.more_unmanaged) == (REASONS, 4)


def test_long_names_and_reasons_are_cut(board: Board) -> None:
    board.note(News(report([finding(Verdict.HELD, "r" * 10_000, name="n" * 10_000)])))
    last = board.shown.last
    assert last is not None
    assert len(last.rows[0].name) == 200
    assert last.rows[0].name.endswith("n\N{HORIZONTAL ELLIPSIS}")
    assert len(last.rows[0].reason) == 1500


def test_settlements_carry_their_evidence_newest_first(board: Board) -> None:
    first, second = finding(Verdict.ZOMBIE, "the first died"), finding(Verdict.ZOMBIE, "the second died")
    settle(board, OutcomeKind.ACCEPTED, first, at=NOW)
    settle(board, OutcomeKind.SETTLED_ELSEWHERE, second, at=NOW + timedelta(seconds=30), detail="already CRASHED")
    newest, oldest = board.shown.settlements
    assert (newest.reason, newest.kind, newest.detail) == ("the second died", "SETTLED_ELSEWHERE", "already CRASHED")
    assert newest.at == NOW + timedelta(seconds=30)
    assert (oldest.run_id, oldest.scope) == (first.run.id, "prod-7")
    assert oldest.resource is not None
    assert oldest.resource.startswith("016aa6b2b5b6")


def test_only_the_last_fifty_settlements_are_kept(board: Board) -> None:
    for minute in range(12):
        zombies = [finding(Verdict.ZOMBIE, f"minute {minute}") for _ in range(5)]
        settle(board, OutcomeKind.ACCEPTED, *zombies, at=NOW + timedelta(minutes=minute))
    kept = board.shown.settlements
    assert len(kept) == SETTLEMENTS
    assert kept[0].reason == "minute 11"
    assert kept[-1].reason == "minute 2"


def test_a_settlement_that_fails_in_every_pass_is_kept_once_with_its_last_time(board: Board) -> None:
    other, stubborn = finding(Verdict.ZOMBIE), finding(Verdict.ZOMBIE)
    settle(board, OutcomeKind.ACCEPTED, other)
    for minute in range(1, 60):
        settle(board, OutcomeKind.FAILED, stubborn, at=NOW + timedelta(minutes=minute), detail=f"try {minute}")
    kept = board.shown.settlements
    assert [(one.run_id, one.detail) for one in kept] == [(stubborn.run.id, "try 59"), (other.run.id, "")]
    settle(board, OutcomeKind.ACCEPTED, stubborn, at=NOW + timedelta(hours=1))
    assert [one.kind for one in board.shown.settlements] == ["ACCEPTED", "FAILED", "ACCEPTED"]


def test_what_was_looked_at_is_let_go(board: Board) -> None:
    class Weighable(Snapshot):
        """Without slots, so that a weak reference can be made."""

    held = finding(Verdict.HELD)
    seen = Weighable(taken_at=NOW, cases=(Case(run=held.run),), scopes={})
    gone = weakref.ref(seen)
    board.note(News(report([held], snapshot=seen)))
    del seen
    gc.collect()
    assert gone() is None
    last = board.shown.last
    assert last is not None
    assert last.report.plan.judged == ()


def test_a_reader_never_sees_half_a_cycle(board: Board) -> None:
    """Each cycle has as many held runs as its count says, and as many settlements."""
    cycles = []
    for size in (1, 5, 9):
        held, zombies = (
            [finding(verdict, str(size)) for _ in range(size)] for verdict in (Verdict.HELD, Verdict.ZOMBIE)
        )
        outcomes = {zombie.run.id: Outcome(OutcomeKind.ACCEPTED, "") for zombie in zombies}
        cycles.append(News(report([*held, *zombies], outcomes, api_calls=size)))

    def read() -> bool:
        last = board.shown.last
        return last is None or len(last.rows) == last.counts[Verdict.ZOMBIE] == last.report.api_calls

    with ThreadPoolExecutor(4) as readers:
        answers = [readers.submit(lambda: all(read() for _ in range(300))) for _ in range(4)]
        for number in range(300):
            board.note(cycles[number % 3])
        assert all(answer.result() for answer in answers)
    assert len(board.shown.settlements) == 15


def test_a_rerun_of_the_same_run_is_another_settlement(board: Board) -> None:
    zombie = finding(Verdict.ZOMBIE)
    again = replace(zombie, run=replace(zombie.run, state_id=uuid4()))
    settle(board, OutcomeKind.ACCEPTED, zombie)
    settle(board, OutcomeKind.ACCEPTED, again, at=NOW + timedelta(minutes=9))
    assert len(board.shown.settlements) == 2


def orphan(name: str, ago: timedelta = timedelta(hours=2), **changes: object) -> Orphan:
    """Something alive whose flow run has ended."""
    values = {"name": name, "state_type": StateType.COMPLETED, "state_name": "Completed"} | changes
    run = flow_run(**values)  # type: ignore[arg-type]
    resource = Resource(
        id=f"c-{name}", title=f"Docker container c-{name}", run_id=run.id, removal=f"docker rm -f c-{name}"
    )
    return Orphan(resource=resource, run=run, since=NOW - ago)


def test_orphans_are_kept_the_oldest_first_and_bounded(board: Board) -> None:
    many = tuple(orphan(f"otter-{number}", timedelta(minutes=number)) for number in range(ORPHANS + 5))
    board.note(News(report(orphans={"a": many[:20], "b": many[20:]})))
    last = board.shown.last
    assert last is not None
    assert last.orphans is not None
    assert (len(last.orphans), last.more_orphans) == (ORPHANS, 5)
    assert [(scope, one.run.name) for scope, one in last.orphans[:1]] == [("b", f"otter-{ORPHANS + 4}")]


def test_no_orphans_is_another_thing_than_not_to_know(board: Board) -> None:
    for orphans, kept in (({"a": ()}, ()), (None, None)):
        board.note(News(report(orphans=orphans)))
        assert board.shown.last is not None
        assert board.shown.last.orphans == kept


def test_a_settlement_knows_what_it_wrote_and_what_followed(board: Board) -> None:
    zombie = finding(Verdict.ZOMBIE)
    zombie = replace(zombie, resumption=Resumption(1, 2, timedelta(seconds=30)))
    cancelled = finding(Verdict.ZOMBIE, state_type=StateType.CANCELLING)
    accepted = Outcome(OutcomeKind.ACCEPTED, "")
    outcomes = {one.run.id: accepted for one in (zombie, cancelled)}
    board.note(News(report([zombie, cancelled], outcomes, settled=Settled(resumed={zombie.run.id: accepted}))))
    shown = {one.run_id: (one.action, one.followed) for one in board.shown.settlements}
    assert shown == {
        zombie.run.id: (Action.CRASH, ("then resumed (1 of 2), due in 30 s",)),
        cancelled.run.id: (Action.CANCEL, ()),
    }
