"""Several tasks that carry one run's id: twins, and what a flow started with a copy of its environment.

RunTask is sent again without a client token when its answer is lost: then two tasks are of one flow run. The one that
finds the run taken ends at once; the other one lives.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from reconciler.model import FlowRun, Verdict
from tests.ecs.fake import FakeTask
from tests.ecs.fake.task_shape import prefect_tags
from tests.ecs.passes import Passes
from tests.ecs.test_absence import GONE, NOT_NAMED, healthy
from tests.ecs.test_scenarios import running, settled, title, waits
from tests.ecs.world import EcsWorld

# --- Twins


def twin(world: EcsWorld, run: FlowRun, ago: float = 360, **changes: object) -> FakeTask:
    return world.aws.task(world.cluster, run.id, created_ago=ago, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "life"), [(0, "runs"), (1, "runs"), (1, "is about to stop"), (0, "stops"), (1, "starts")]
)
def test_the_twin_of_what_ended_lives(world: EcsWorld, many: Passes, code: int, life: str) -> None:
    task, run = running(world, many)
    other = twin(world, run)
    task.stop(exits={"prefect": code})
    if life == "is about to stop":
        other.notice()
    elif life == "stops":
        other.stopping("DEPROVISIONING")
    elif life == "starts":
        other.starting("PROVISIONING")
    for _ in range(3):
        many.later(600)
        found = many.judged(run)
        assert found.verdict is Verdict.HEALTHY
        assert found.reason.startswith(f"{title(other)} is ")
        assert found.reason.endswith(NOT_NAMED)
    assert many.written == []
    other.stop(exits={"prefect": 5}, ago=2)
    many.later(30)
    assert settled(many).startswith(f"{title(other)} stopped: ")


@pytest.mark.parametrize("code", [0, 1])
def test_the_twin_that_is_not_shown_yet(world: EcsWorld, many: Passes, code: int) -> None:
    """It began a minute later; and its heartbeats are there."""
    task = world.aws.task(world.cluster, uuid4(), created_ago=70)
    since = many.now() - timedelta(seconds=50)
    run = many.run(task, state_since=since, created=since - timedelta(seconds=60))
    other = twin(world, run, ago=65)
    task.stop(exits={"prefect": code}, ago=40)
    other.is_forgotten = True  # one of the two is late; the lag of the fake would hide both
    many.beats(run, 40)
    for _ in range(2):
        waits(many, run, "scope 'prod' may not show yet what else was made within 5 min")
        many.later(60)
        many.beats(run, 20)
    other.is_forgotten = False
    healthy(many, run, other)
    other.stop(exits={"prefect": code}, ago=5)
    many.later(300)
    assert settled(many).startswith(f"{title(other)} stopped")


@pytest.mark.parametrize("code", [0, 1])
def test_the_twin_that_lives_has_no_tags_any_more(world: EcsWorld, many: Passes, code: int) -> None:
    task, run = running(world, many)
    other = twin(world, run, tags={})
    task.stop(exits={"prefect": code})
    for _ in range(2):
        many.later(600)
        healthy(many, run, other)


def test_the_twin_of_what_is_gone_lives(world: EcsWorld, many: Passes) -> None:
    task, run = running(world, many)
    other = twin(world, run, tags={})
    task.forget()
    for _ in range(2):
        many.later(600)
        healthy(many, run, other)
    other.stop(ago=60)
    assert settled(many) == f"{title(task)} {GONE}; last seen running TIME"


# --- What other tasks carry


@pytest.mark.parametrize("pid", [None, "another"])
def test_the_end_of_what_only_has_the_environment(world: EcsWorld, many: Passes, pid: str | None) -> None:
    """A flow may start tasks with a copy of its environment. Without a pid nothing is known of the run itself."""
    other = world.aws.cluster("another")
    named = world.aws.task(other).pid if pid else None
    run = many.run(named, run_id=uuid4())
    part = twin(world, run, tags={})
    part.stop(exits={"prefect": 1}, ago=60)
    for _ in range(3):
        many.later(600)
        assert many.judged(run).verdict is Verdict.UNMANAGED
    assert many.written == []


def test_another_run_s_task_with_a_copied_environment(world: EcsWorld, many: Passes) -> None:
    """Its own tag says whose it is: it neither keeps the run alive nor condemns it."""
    task, run = running(world, many)
    child = twin(world, run, tags=prefect_tags(uuid4()))
    child.stop(exits={"prefect": 1})
    many.later(60)
    healthy(many, run, task, "is running")
    child.run()
    task.stop(exits={"prefect": 1}, ago=60)
    assert settled(many).startswith(f"{title(task)} stopped")


def test_the_named_task_carries_another_run(world: EcsWorld, many: Passes) -> None:
    task, run = running(world, many)
    stranger = uuid4()
    task.carry(stranger)
    task.stop(exits={"prefect": 1})
    many.later(600)
    found = many.judged(run)
    assert found.verdict is Verdict.UNKNOWN
    assert f"{title(task)}, known as this run's, carries the id of flow run {stranger}" in found.reason
    assert many.written == []
