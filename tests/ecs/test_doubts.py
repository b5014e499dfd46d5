"""Runs that live, while what ECS shows of them looks like an end or an absence: nothing is written of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from reconciler.model import FlowRun, Guard, RunMapping, StateType, Verdict
from reconciler.outlook import Outlook
from reconciler.ports import BoundScope
from reconciler_adapters.ecs.owners import Owners
from tests.ecs.fake import FakeTask, FaultKind
from tests.ecs.fake import aws as fake_aws
from tests.ecs.fake.task_shape import prefect_tags
from tests.ecs.passes import Passes, passes
from tests.ecs.test_scenarios import running, title, waits
from tests.ecs.world import EcsWorld

LATE = "scope 'prod' may not show yet what else was made within 5 min"
FORCED = ("UserInitiated", "Container instance deregistration forced by user")


def spared(many: Passes, run: FlowRun, verdict: Verdict) -> str:
    """Why one pass says that of it. Nothing was written."""
    found = many.judged(run)
    assert (found.verdict, many.written) == (verdict, []), found.reason
    return found.reason


def hidden_twin(world: EcsWorld, run_id: Any, ago: float) -> FakeTask:
    """What RunTask made when it was sent again; ECS does not show it yet."""
    twin = world.aws.task(world.cluster, run_id, created_ago=ago)
    twin.forget()
    return twin


def appears(many: Passes, run: FlowRun, twin: FakeTask) -> None:
    twin.is_forgotten = False
    assert spared(many, run, Verdict.HEALTHY).startswith(f"{title(twin)} is running")


# --- Not shown yet


@pytest.mark.parametrize("has_route", [True, False], ids=["no heartbeat yet", "no heartbeats at all"])
@pytest.mark.parametrize("age", [20, 60])
@pytest.mark.parametrize("state", [StateType.PENDING, StateType.RUNNING])
def test_a_twin_that_is_not_shown_yet(
    world: EcsWorld, many: Passes, state: StateType, age: float, has_route: bool
) -> None:
    """It is what reports; what the pid names found the run taken, and has ended."""
    if not has_route:
        many.api.hearts = None
    task = world.aws.task(world.cluster, uuid4(), created_ago=100).stop(exits={"prefect": 0}, ago=50)
    since = many.now() - timedelta(seconds=age)
    run = many.run(
        task, state_type=state, state_name=state.value.title(), state_since=since, created=since - timedelta(minutes=1)
    )
    twin = hidden_twin(world, run.id, 99)
    for _ in range(4):
        waits(many, run, LATE)
        many.later(60)
    appears(many, run, twin)


def test_a_twin_of_what_could_not_be_started(world: EcsWorld, many: Passes) -> None:
    task = world.aws.task(world.cluster, uuid4(), created_ago=70, last_status="PENDING")
    since = many.now() - timedelta(seconds=80)
    run = many.run(task, state_type=StateType.PENDING, state_name="Pending", state_since=since, created=since)
    twin = hidden_twin(world, run.id, 65)
    task.fail_to_start("Capacity is unavailable at this time.", ago=50)
    for _ in range(3):
        waits(many, run, LATE)
        many.later(60)
    appears(many, run, twin)


@pytest.mark.parametrize("beat_ago", [None, 120])
def test_a_twin_made_a_minute_later(world: EcsWorld, many: Passes, beat_ago: float | None) -> None:
    """RunTask's answer was lost for a minute: the first is older than the five minutes, the second is not."""
    task = world.aws.task(world.cluster, uuid4(), created_ago=310).stop(exits={"prefect": 0}, ago=100)
    since = many.now() - timedelta(seconds=200)
    run = many.run(task, state_since=since, created=since - timedelta(seconds=130))
    twin = hidden_twin(world, run.id, 250)
    if beat_ago is not None:
        many.beats(run, beat_ago)
    waits(many, run, LATE)
    many.later(60)
    waits(many, run, LATE)
    appears(many, run, twin)


def test_a_twin_seen_alive_and_not_shown_for_a_moment(world: EcsWorld, many: Passes) -> None:
    task, run = running(world, many)
    twin = world.aws.task(world.cluster, run.id)
    task.stop(exits={"prefect": 1})
    for _ in range(2):
        assert title(twin) in spared(many, run, Verdict.HEALTHY)
        many.later(60)
    twin.forget()

    def back() -> None:
        twin.is_forgotten = False

    many.api.before_reread = back
    assert title(twin) in spared(many, run, Verdict.HEALTHY)
    twin.stop(exits={"prefect": 1}, ago=60)
    many.look()
    assert len(many.written) == 1, "now nothing is left of it"


def test_an_end_that_is_not_a_second_old_keeps_its_time(world: EcsWorld, many: Passes) -> None:
    """AWS's clock is read to the second, and an end after it is none that it tells."""
    task, run = running(world, many)
    at = many.now()
    many.later((1_000_000 - at.microsecond) / 1e6 - 0.1)
    task.stop(exits={"prefect": 1})
    found = many.judged(run)
    assert found.verdict is Verdict.WAITING
    assert found.observation
    assert found.observation.ended_at is not None
    assert many.waited == []


# --- Out of sight


@pytest.mark.parametrize("nobody", ["could ask", "did ask, and the cluster is new"])
def test_a_host_deregistered_by_force_and_then_forgotten(world: EcsWorld, many: Passes, nobody: str) -> None:
    """What it started runs on, and beats. Its task was stopped, by ECS's account, and is forgotten."""
    task, run = running(world, many, launch_type="EC2")
    many.later(600)
    many.beats(run, 30)
    spared(many, run, Verdict.HEALTHY)
    task.stop(*FORCED)
    if nobody == "could ask":
        world.aws.fault(FaultKind.EXPIRED)
        for _ in range(2):
            spared(many, run, Verdict.UNKNOWN)
            many.later(2100)
        world.aws.heal()
    else:
        world.aws.cluster("default", status="INACTIVE")
        world.aws.cluster("default")
        many.later(60)
    many.beats(run, 20)
    found = many.judged(run)
    assert (found.verdict, found.guard, many.written) == (Verdict.HELD, Guard.QUIET, [])


def test_a_host_deregistered_by_force_and_looked_at_all_the_time(world: EcsWorld, many: Passes) -> None:
    task, run = running(world, many, launch_type="EC2")
    task.stop(*FORCED)
    for _ in range(6):  # in the middle of it the end is forgotten
        many.later(850)
        many.beats(run, 20)
        spared(many, run, Verdict.HELD)


def test_listed_as_running_but_missing_and_without_any_id(world: EcsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is known as one that carries no run's id; the list knows the run's task by its ARN alone."""
    with passes(world, deadline=5.0) as many:
        task = world.aws.task(world.cluster, None, created_ago=900)
        run = many.run(task.pid)
        spared(many, run, Verdict.HEALTHY)
        many.later(60)
        monkeypatch.setattr(world.aws.store, "seen", lambda *_: None)
        assert "ECS lists a task of cluster default, and does not describe" in spared(many, run, Verdict.UNKNOWN)


# --- What is carried, and what is not understood


@pytest.mark.parametrize("before", ["nothing", "seen alive", "seen alive by another process"])
def test_a_copied_environment_never_vouches_for_an_end(world: EcsWorld, many: Passes, before: str) -> None:
    """The run's own task is in a cluster that no scope names; it started one here with its environment."""
    own = world.aws.task(world.aws.cluster("other"), uuid4())
    child = world.aws.task(world.cluster, own.run_id, tags={})
    run = many.run(None, run_id=own.run_id)
    if before != "nothing":
        assert title(child) in spared(many, run, Verdict.HEALTHY)
    if before.endswith("another process"):
        world.scope._owners = Owners()
        world.scope._remembered.clear()
    child.stop(exits={"prefect": 0}, ago=60)
    for _ in range(3):
        spared(many, run, Verdict.UNMANAGED)
        many.later(600)


def test_a_live_task_that_is_tagged_anew(world: EcsWorld, many: Passes) -> None:
    """By a person or a rule for tags: its environment still names the run, as does the pid."""
    task, run = running(world, many)
    task.body["tags"] = [{"key": key, "value": value} for key, value in prefect_tags(uuid4()).items()]
    for _ in range(2):
        many.later(900)
        assert spared(many, run, Verdict.HEALTHY) == f"{title(task)} is running"


def odd_twin(world: EcsWorld, cluster: str, run: FlowRun, **changes: object) -> FakeTask:
    twin = world.aws.task(cluster, run.id, **changes)  # type: ignore[arg-type]
    twin.body["lastStatus"] = "HIBERNATING"
    return twin


def test_a_twin_without_tags_in_a_status_that_nobody_knows(world: EcsWorld, many: Passes) -> None:
    task, run = running(world, many)
    odd_twin(world, world.cluster, run, tags={})
    task.stop(exits={"prefect": 1}, ago=60)
    for _ in range(2):
        assert "has the status 'HIBERNATING'" in spared(many, run, Verdict.UNKNOWN)
        many.later(600)


def test_a_twin_in_such_a_status_in_a_scope_that_is_not_mapped(world: EcsWorld) -> None:
    second = world.bind("second", clusters=[world.aws.cluster("other")])
    with passes(world) as many:
        pools = [RunMapping(work_pools=frozenset({name})) for name in ("pool", "another")]
        bounds = [BoundScope(each, "ecs", pool) for each, pool in zip((world.scope, second), pools, strict=True)]
        many.outlook = many.cycle.outlook = Outlook(bounds, many._memory, 20.0, many.now)
        task, run = running(world, many)
        odd_twin(world, world.aws.cluster_arn("other"), run)
        task.stop(exits={"prefect": 1}, ago=60)
        for _ in range(2):
            many.later(60)
            assert "has the status 'HIBERNATING'" in spared(many, run, Verdict.UNKNOWN)
    second.close()


def test_a_task_described_twice_in_one_answer(world: EcsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once alive, once ended."""
    with passes(world, deadline=5.0) as many:
        task, run = running(world, many)
        dead = task.body | {
            "lastStatus": "STOPPED",
            "desiredStatus": "STOPPED",
            "stoppedAt": task.body["createdAt"] + 300,
        }
        real = fake_aws._ECS["DescribeTasks"]
        monkeypatch.setitem(
            fake_aws._ECS, "DescribeTasks", lambda asked: (said := real(asked)) | {"tasks": [*said["tasks"], dead]}
        )
        many.later(600)
        assert "ECS lists a task" in spared(many, run, Verdict.UNKNOWN)
