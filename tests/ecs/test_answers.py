"""Odd answers that must not keep the scope from telling: times that never come, and tasks that nobody describes."""

from __future__ import annotations

import time
from uuid import uuid4

import pytest

from reconciler.model import Verdict
from tests.ecs.fake import aws as fake_aws
from tests.ecs.fake import server
from tests.ecs.fake.answers import invalid
from tests.ecs.fake.reads import Asked
from tests.ecs.fake.task_shape import Body
from tests.ecs.passes import Passes, passes
from tests.ecs.test_scenarios import running, settled, title
from tests.ecs.world import EcsWorld

ODD_TIMES = [1e300, 1e20, 1e18, 1.7e12, -1e18]
ENDED = "stopped: EssentialContainerExited; container prefect exited with code 1"


# --- Times


@pytest.mark.parametrize("odd", ODD_TIMES)
def test_a_time_that_never_comes_is_no_time(world: EcsWorld, many: Passes, odd: float) -> None:
    task, run = running(world, many)
    task.body["createdAt"] = odd
    many.later(60)
    found = many.judged(run)
    assert (found.verdict, found.reason) == (Verdict.HEALTHY, f"{title(task)} is running")
    assert found.observation
    assert found.observation.resource
    assert found.observation.resource.created_at is None


@pytest.mark.parametrize("odd", ODD_TIMES)
@pytest.mark.parametrize("member", ["createdAt", "stoppedAt", "executionStoppedAt"])
def test_an_end_with_such_a_time_is_still_an_end(world: EcsWorld, many: Passes, member: str, odd: float) -> None:
    task, _ = running(world, many)
    task.stop(exits={"prefect": 1})
    task.body[member] = odd
    many.later(600)
    assert settled(many).startswith(f"{title(task)} {ENDED}")


def test_an_end_without_a_time_is_one_of_the_moment_in_which_it_was_first_seen(world: EcsWorld, many: Passes) -> None:
    task, _ = running(world, many)
    task.stop(exits={"prefect": 1})
    task.body |= {"stoppedAt": 1e18, "executionStoppedAt": 1e18}
    many.later(600)
    many.look()
    assert (many.written, many.waited) == ([], [10.0])
    many.later(60)
    assert settled(many).startswith(f"{title(task)} {ENDED}")


def test_the_clock_of_its_host_is_behind(world: EcsWorld, many: Passes) -> None:
    """On EC2 `executionStoppedAt` is by the host's clock: here a quarter of an hour behind, before the run's state."""
    task, _ = running(world, many, launch_type="EC2")
    many.later(60)
    task.stop(exits={"prefect": 1})
    task.body["executionStoppedAt"] -= 900
    many.later(60)
    assert settled(many).startswith(f"{title(task)} {ENDED}")


@pytest.mark.parametrize("date", ["garbage", "Sun, 22 Nov 2026 13:00:00 -0000", "Sun, 22 Nov 2026 13:00:00", ""])
def test_a_date_that_is_none(world: EcsWorld, many: Passes, monkeypatch: pytest.MonkeyPatch, date: str) -> None:
    _, run = running(world, many)
    monkeypatch.setattr(server, "format_datetime", lambda *_, **__: date)
    found = many.judged(run)
    assert found.verdict in {Verdict.HEALTHY, Verdict.UNKNOWN}
    assert "adapter failed" not in found.reason


# --- Tasks


def test_stopped_tasks_are_forgotten_between_list_and_description(
    world: EcsWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As all the time in a busy cluster. A process that makes one pass only is to settle in it."""
    task = world.aws.task(world.cluster, uuid4())
    others = [world.aws.task(world.cluster, uuid4()).stop(exits={"prefect": 0}, ago=3500) for _ in range(9)]
    real = fake_aws._ECS["ListTasks"]

    def listed(asked: Asked) -> Body:
        said = real(asked)
        for other in others if asked.params["desiredStatus"] == "STOPPED" else ():
            if any(arn == other.arn for arn in said["taskArns"]):
                other.forget()
                others.remove(other)
                return said
        return said

    monkeypatch.setitem(fake_aws._ECS, "ListTasks", listed)
    with passes(world) as many:
        many.run(task)
        task.stop(exits={"prefect": 1}, ago=60)
        began = time.monotonic()
        assert settled(many).startswith(f"{title(task)} {ENDED}")
        assert time.monotonic() - began < 2, "nothing was waited for"
    assert len(others) < 9


@pytest.mark.parametrize("has_ended", [False, True])
def test_an_identifier_for_which_aws_refuses_all(
    world: EcsWorld, many: Passes, monkeypatch: pytest.MonkeyPatch, has_ended: bool
) -> None:
    """Of 250 runs only that one is not known."""
    tasks = [world.aws.task(world.cluster, uuid4()) for _ in range(249)]
    runs = [many.run(task) for task in tasks]
    poison = world.aws.unknown_task()
    poisoned = many.run(f"default::{poison}")
    real = fake_aws._ECS["DescribeTasks"]

    def described(asked: Asked) -> Body:
        if poison in asked.params["tasks"]:
            raise invalid("Invalid identifier: " + poison)
        return real(asked)

    monkeypatch.setitem(fake_aws._ECS, "DescribeTasks", described)
    if has_ended:
        tasks[100].stop(exits={"prefect": 1}, ago=60)
    findings = {found.run.id: found for found in many.look()}
    doubtful = findings.pop(poisoned.id)
    assert doubtful.verdict is Verdict.UNKNOWN
    assert "Invalid identifier" in doubtful.reason
    assert (findings.pop(runs[100].id).verdict is Verdict.ZOMBIE) is has_ended
    assert {found.verdict for found in findings.values()} == {Verdict.HEALTHY}
    assert len(many.written) == has_ended


@pytest.mark.parametrize("date", ["Sun, 22 Nov 9999 13:00:00 GMT"])
def test_a_clock_that_is_off_by_centuries_blinds_its_scope_only(
    world: EcsWorld, many: Passes, monkeypatch: pytest.MonkeyPatch, date: str
) -> None:
    task, run = running(world, many)
    task.stop(exits={"prefect": 1}, ago=60)
    monkeypatch.setattr("tests.ecs.fake.server.format_datetime", lambda *_, **__: date)
    found = many.judged(run)
    assert found.verdict is Verdict.UNKNOWN
    assert "its clock shows" in found.reason
    assert many.written == []
