"""The sentences of docs/ecs.md are those of the adapter, and what it says of calls is so."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from tests.ecs.fake import FakeTask
from tests.ecs.passes import Passes
from tests.ecs.world import EcsWorld

PAGE = (Path(__file__).parents[2] / "docs" / "ecs.md").read_text(encoding="utf-8")
OUT_OF_MEMORY = "OutOfMemoryError: Container killed due to memory usage"
BECOMES: dict[str, Callable[[FakeTask], object]] = {
    "killed": lambda task: task.stop(exits={"prefect": 137}),
    "out of memory": lambda task: task.stop(exits={"prefect": 137}, reasons={"prefect": OUT_OF_MEMORY}),
    "spot": lambda task: task.stop("SpotInterruption", "Your Spot Task was interrupted."),
    "user": lambda task: task.stop("UserInitiated", "Task stopped by user", exits={"prefect": 143}),
    "no place": lambda task: task.fail_to_start("RESOURCE:GPU"),
    "host lost": lambda task: task.stop("InfrastructureHealth", "Container instance unhealthy"),
    "forgotten": lambda task: task.forget(),
    "spot notice": lambda task: task.notice(),
}


def sentences() -> list[str]:
    return re.findall(r"^    \.\.\. (.+)", PAGE, re.MULTILINE)


@pytest.mark.parametrize("what", BECOMES)
def test_a_sentence_of_the_page(world: EcsWorld, what: str) -> None:
    run_id = uuid4()
    task = world.aws.task(world.cluster, run_id)
    BECOMES[what](task)
    seen = world.scope.observe([world.run_of(task.pid, run_id)], time.monotonic() + 20)
    (observation,) = seen.observations[run_id]
    assert [one for one in sentences() if one.startswith(observation.reason)], observation.reason


def test_every_sentence_of_the_page_is_tested() -> None:
    assert len(sentences()) == len(BECOMES)


def test_the_calls_of_a_pass(world: EcsWorld, many: Passes) -> None:
    for _ in range(150):
        many.run(world.aws.task(world.cluster, uuid4()))
    many.look()
    world.aws.reset_counts()
    many.look()
    assert world.aws.calls == {"sts:GetCallerIdentity": 2, "ecs:DescribeClusters": 2, "ecs:DescribeTasks": 2}


def test_the_calls_of_a_pass_with_a_run_that_shows_no_live_task(world: EcsWorld, many: Passes) -> None:
    for _ in range(150):
        many.run(world.aws.task(world.cluster, uuid4()))
    many.run(f"elsewhere::{world.aws.unknown_task('elsewhere')}")
    many.look()
    world.aws.reset_counts()
    many.look()
    assert world.aws.calls["ecs:DescribeTasks"] == 2  # whose the others are is known
    assert world.aws.calls["ecs:ListTasks"] == 3  # two pages of running tasks, one of stopped ones
