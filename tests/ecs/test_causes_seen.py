"""Why a task ended, in one word, and how a person would stop a live one, as a scope sees it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from uuid import uuid4

import pytest

from reconciler.model import Cause, Condition, FlowRun, Observation
from tests.ecs.fake import REGION, FakeTask
from tests.ecs.world import EcsWorld

OOM = "OutOfMemoryError: Container killed due to memory usage"
ENDS: dict[str, tuple[Callable[[FakeTask], object], Cause | None, Cause]] = {
    "spot": (
        lambda task: task.notice().stop(exits={"prefect": 143}),
        Cause.SPOT_INTERRUPTION,
        Cause.SPOT_INTERRUPTION,
    ),
    "spot, as Fargate says it": (
        lambda task: task.notice("TerminationNotice").stop(),
        Cause.SPOT_INTERRUPTION,
        Cause.SPOT_INTERRUPTION,
    ),
    "never started": (
        lambda task: task.fail_to_start("CannotPullContainerError: not found"),
        Cause.FAILED_TO_START,
        Cause.FAILED_TO_START,
    ),
    "out of memory": (
        lambda task: task.stop(exits={"prefect": 137}, reasons={"prefect": OOM}),
        Cause.OOM_KILLED,
        Cause.OOM_KILLED,
    ),
    "a user": (
        lambda task: task.stop("UserInitiated", "Task stopped by user", exits={"prefect": 143}),
        Cause.STOPPED,
        Cause.STOPPED,
    ),
    "a service": (
        lambda task: task.stop("ServiceSchedulerInitiated", "Scaling activity initiated"),
        Cause.STOPPED,
        Cause.STOPPED,
    ),
    "its host": (
        lambda task: task.stop("TerminationNotice", "Host EC2 (instance i-0abc) terminated."),
        Cause.NODE_LOST,
        Cause.NODE_LOST,
    ),
    "its host is ill": (
        lambda task: task.stop("InfrastructureHealth", "Container instance unhealthy"),
        Cause.NODE_LOST,
        Cause.NODE_LOST,
    ),
    "an exception": (lambda task: task.stop(exits={"prefect": 1}), None, Cause.EXITED),
    "killed": (lambda task: task.stop(exits={"prefect": 137}), None, Cause.KILLED),
    "done": (lambda task: task.stop(exits={"prefect": 0}), None, Cause.NOT_REPORTED),
}


def look(world: EcsWorld, run: FlowRun) -> Observation:
    (one,) = world.scope.observe([run], time.monotonic() + 10).observations[run.id]
    return one


@pytest.mark.parametrize("case", ENDS)
def test_why_it_ended(world: EcsWorld, case: str) -> None:
    end, cause, word = ENDS[case]
    task = world.aws.task(world.cluster, run_id := uuid4())
    run = world.run_of(task.pid, run_id)
    lives = look(world, run)
    assert (lives.condition, lives.cause, lives.why) == (Condition.ALIVE, None, None)
    end(task)
    seen = look(world, run)
    assert (seen.condition, seen.cause, seen.why) == (Condition.EXITED, cause, word)


def test_nothing_says_why_a_forgotten_task_is_no_more(world: EcsWorld) -> None:
    seen = look(world, world.place(Condition.GONE))
    assert (seen.condition, seen.cause, seen.why) == (Condition.GONE, None, Cause.REMOVED)
    assert seen.resource is not None
    assert seen.resource.removal == "", "there is nothing to stop"


def test_the_command_that_would_stop_it(world: EcsWorld) -> None:
    """Also of a run that nobody asked about: it is for a person who finds a run over, and its task alive."""
    task, other = world.aws.task(world.cluster, run_id := uuid4()), world.aws.task(world.cluster, uuid4())
    seen = world.scope.observe([world.run_of(task.pid, run_id), world.place(Condition.GONE)], time.monotonic() + 10)
    (mine,) = (one.resource for one in seen.observations[run_id])
    assert mine is not None
    begin = ["aws", "ecs", "stop-task", "--region", REGION, "--cluster", "default", "--task"]
    assert shlex.split(mine.removal) == [*begin, task.arn]
    assert [shlex.split(one.removal) for one in seen.strangers] == [[*begin, other.arn]]
