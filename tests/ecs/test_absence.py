"""What it says that ECS does not show a task: of runs that are young, seen before or never, and of several scopes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import uuid4

import pytest

from reconciler.model import FlowRun, Guard, RunMapping, StateType, Verdict
from reconciler.outlook import Outlook
from reconciler.ports import BoundScope
from reconciler_adapters.ecs import EcsScope
from tests.ecs.fake import FakeTask
from tests.ecs.fake.clients import client
from tests.ecs.passes import Passes, passes
from tests.ecs.test_scenarios import running, settled, title, waits
from tests.ecs.world import EcsWorld
from tests.passes import identity_of

GONE = "is not known to ECS (any more): it keeps stopped tasks for about an hour"
NOT_NAMED = "it is not what the run's infrastructure_pid names"


def healthy(many: Passes, run: FlowRun, task: FakeTask, words: str = f"is running; {NOT_NAMED}") -> None:
    found = many.judged(run)
    assert (found.verdict, found.rule, found.reason) == (Verdict.HEALTHY, "3", f"{title(task)} {words}")
    assert many.written == []


# --- E03: MISSING


@pytest.mark.parametrize("sighted", [True, False])
def test_missing_says_nothing_for_five_minutes(world: EcsWorld, sighted: bool) -> None:
    with passes(world, pin=identity_of(world.scope)) as many:
        task = world.aws.task(world.cluster, uuid4(), created_ago=90)
        since = many.now() - timedelta(seconds=40)
        run = many.run(task, state_since=since, created=since - timedelta(seconds=60))
        if sighted:
            assert many.judged(run).verdict is Verdict.HEALTHY
        task.forget()
        for _ in range(4):
            waits(many, run, "the state is ")
            assert "and scope 'prod' may not show yet what was made within 5 min" in many.judged(run).reason
            many.later(60)
        assert many.waited == [], "no second look so far"
        many.later(30)
        message = settled(many)
        assert many.waited == [10.0]
        assert message == f"{title(task)} {GONE}" + ("; last seen running TIME" if sighted else "")


def test_missing_counts_only_twice(world: EcsWorld, many: Passes) -> None:
    """Not shown once, for whatever reason, and there again ten seconds later."""
    task, run = running(world, many)
    task.forget()
    many.later(600)

    def back() -> None:
        task.is_forgotten = False

    many.api.before_reread = back
    healthy(many, run, task, "is running")
    assert many.waited == [10.0]


def test_missing_by_description_and_still_listed(world: EcsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """One half of ECS knows it. With a deadline below 6 s it is not asked again and again."""
    with passes(world, deadline=5.0) as many:
        _, run = running(world, many)
        many.later(600)
        monkeypatch.setattr(world.aws.store, "seen", lambda *_: None)
        found = many.judged(run)
        assert found.verdict is Verdict.UNKNOWN
        assert "ECS lists a task of cluster default, and does not describe what it lists" in found.reason
        assert many.written == []


def test_without_pid_and_never_seen(world: EcsWorld) -> None:
    with passes(world, exclusive=True) as many:
        run = many.run(None)
        for _ in range(3):
            many.later(600)
            found = many.judged(run)
            assert (found.verdict, found.rule) == (Verdict.UNMANAGED, "5")
            assert found.reason == (
                "nothing of this attempt was ever seen in scope 'prod', and it has no infrastructure_pid"
            )
        assert many.written == []


def test_without_pid_and_seen_before(world: EcsWorld, many: Passes) -> None:
    task = world.aws.task(world.cluster, run_id := uuid4())
    run = many.run(None, run_id=run_id)
    healthy(many, run, task, "is running")
    client(world.aws).stop_task(cluster="default", task=task.arn)
    many.later(60)
    assert many.judged(run).verdict is Verdict.HEALTHY, "found by its ARN"
    task.forget()
    many.later(600)
    assert settled(many).startswith(f"{title(task)} {GONE}; last seen about to be stopped: UserInitiated")


def test_all_that_vanish_at_once_are_held(world: EcsWorld, many: Passes) -> None:
    """ECS has lost its memory, or the cluster was made anew."""
    seen = [running(world, many) for _ in range(4)]
    for task, _ in seen:
        task.forget()
    many.later(600)
    assert {(found.verdict, found.guard) for found in many.look()} == {(Verdict.HELD, Guard.BREAKER)}
    for task, _ in seen:
        task.is_forgotten = False
    many.later(60)
    assert {found.verdict for found in many.look()} == {Verdict.HEALTHY}
    assert many.written == []


def test_a_cancelling_run_is_left_to_a_person(world: EcsWorld, many: Passes) -> None:
    task, run = running(world, many)
    many.becomes(run, StateType.CANCELLING)
    task.forget()
    for seconds in (30, 600):
        many.later(seconds)
        assert many.judged(run).verdict in {Verdict.WAITING, Verdict.HELD}
    assert many.written == []


# --- Two scopes, two clusters


@contextmanager
def two_scopes(world: EcsWorld, second: EcsScope, **mapping: object) -> Iterator[Passes]:
    with passes(world, exclusive=True) as many:
        pool = RunMapping(work_pools=frozenset({"pool"}), **mapping)  # type: ignore[arg-type]
        bounds = [BoundScope(world.scope, "ecs", pool), BoundScope(second, "ecs", pool)]
        many.outlook = many.cycle.outlook = Outlook(bounds, many._memory, 20.0, many.now)
        yield many
    second.close()


@pytest.mark.parametrize("trouble", ["none", "wrong region", "wrong account", "denied"])
@pytest.mark.parametrize("has_pid", [True, False])
def test_two_scopes_one_of_which_is_not_right(world: EcsWorld, trouble: str, has_pid: bool) -> None:
    """The living are in the second cluster, whatever its scope says."""
    home = world.aws.cluster("batch")
    world.aws.cluster("batch", region="eu-west-1")
    task = world.aws.task(home, run_id := uuid4())
    options: dict[str, object] = {"clusters": ["batch"]}
    if trouble == "wrong region":
        options["region"] = "eu-west-1"
    elif trouble == "wrong account":
        options["clusters"] = [home.replace("123456789012", "999999999999")]
    with two_scopes(world, world.bind("batch", **options), exclusive=True) as many:
        run = many.run(task if has_pid else None, run_id=run_id)
        many.look()
        if trouble == "denied":
            world.aws.denied = {"ecs:DescribeTasks"}
        for _ in range(2):
            many.later(600)
            found = many.judged(run)
            assert found.verdict in {Verdict.HEALTHY, Verdict.UNKNOWN, Verdict.UNMANAGED}
            assert (found.verdict is Verdict.HEALTHY) is (trouble == "none")
        assert many.written == []
        assert many.api.runs == [run]


def test_an_end_in_one_cluster_while_the_other_cannot_be_asked(world: EcsWorld) -> None:
    """Both are mapped to the pool, so its twin may be in either."""
    world.aws.cluster("batch")
    with two_scopes(world, world.bind("batch", clusters=["batch"])) as many:
        task, run = running(world, many)
        task.stop(exits={"prefect": 1}, ago=60)
        world.aws.forget_cluster(world.aws.cluster_arn("batch"))
        for _ in range(2):
            many.later(600)
            assert many.judged(run).verdict is Verdict.UNKNOWN
        assert many.written == []
        world.aws.cluster("batch")
        many.later(60)
        assert settled(many).startswith(f"{title(task)} stopped")


def test_a_run_without_pid_moves_from_cluster_to_cluster(world: EcsWorld) -> None:
    """It was seen in the first, and is begun anew in the second, that of another pool."""
    batch = world.aws.cluster("batch")
    with two_scopes(world, world.bind("batch", clusters=["batch"])) as many:
        first = world.aws.task(world.cluster, run_id := uuid4())
        run: FlowRun = many.run(None, run_id=run_id)
        healthy(many, run, first, "is running")
        first.forget()
        second = world.aws.task(batch, run_id)
        many.later(600)
        found = many.judged(run)
        assert (found.verdict, many.written) == (Verdict.HEALTHY, [])
        assert second.id in found.reason
