"""Runs that begin anew, sleep until their retry, or were put off: what of an earlier attempt says nothing."""

from __future__ import annotations

import pytest

from reconciler.model import FlowRun, StateType, Verdict
from tests.ecs.passes import Passes
from tests.ecs.test_scenarios import running, settled, title
from tests.ecs.world import EcsWorld


def begin_anew(many: Passes, run: FlowRun) -> FlowRun:
    """It is put off, and fetched again; its pid stays."""
    many.becomes(run, StateType.SCHEDULED, "AwaitingRetry")
    many.later(60)
    many.becomes(run, StateType.PENDING)
    many.later(30)
    return many.becomes(run, StateType.RUNNING)


@pytest.mark.parametrize("end", ["stopped", "missing"])
def test_the_end_of_an_earlier_attempt_is_void(world: EcsWorld, many: Passes, end: str) -> None:
    first, run = running(world, many)
    if end == "stopped":
        first.stop(exits={"prefect": 1})
    else:
        first.forget()
    run = begin_anew(many, run)
    for _ in range(3):  # its new task is not shown yet, nor its pid written
        many.later(90)
        assert many.judged(run).verdict in {Verdict.WAITING, Verdict.UNMANAGED}
    second = world.aws.task(world.cluster, run.id, created_ago=275)
    for _ in range(2):
        many.later(600)
        found = many.judged(run)
        assert found.verdict is Verdict.HEALTHY
        assert found.reason == f"{title(second)} is running; it is not what the run's infrastructure_pid names"
    assert many.written == []
    second.stop(exits={"prefect": 3}, ago=2)
    many.later(30)
    assert settled(many).startswith(f"{title(second)} stopped: EssentialContainerExited; container prefect exited with")


def test_a_run_that_sleeps_until_its_retry(world: EcsWorld, many: Passes) -> None:
    task, run = running(world, many)
    due = many.now()
    many.becomes(run, StateType.SCHEDULED, "AwaitingRetry", retry_type="in_process", scheduled_time=due)
    many.later(600)
    assert many.judged(run).verdict is Verdict.HEALTHY
    task.stop(exits={"prefect": 137}, ago=60)
    assert settled(many).startswith(f"{title(task)} stopped")


def test_a_run_that_was_put_off_is_not_judged(world: EcsWorld, many: Passes) -> None:
    task, run = running(world, many)
    task.stop(exits={"prefect": 1})
    many.becomes(run, StateType.SCHEDULED, "AwaitingRetry")
    many.later(600)
    assert many.look() == []
    assert many.written == []
