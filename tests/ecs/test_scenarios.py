"""What users of ECS suffer from, scenario by scenario: whole passes over the fake AWS. E01 to E04.

The others are in `test_scenarios_more.py`; what an absence says, in `test_absence.py`.
"""

from __future__ import annotations

import re
from datetime import timedelta
from uuid import uuid4

import pytest

from reconciler.model import FlowRun, StateType, Verdict
from reconciler.plan import Finding
from reconciler_adapters.ecs.owners import Owners
from tests.ecs.fake import Credentials, FakeTask
from tests.ecs.fake.clients import client
from tests.ecs.fake.limits import TASKS, Limit
from tests.ecs.passes import Passes, passes
from tests.ecs.world import EcsWorld

SETTLED = "; no final state was reported. Set by prefect-reconciler."
_TIME = re.compile(r"(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d UTC")
PULL = "CannotPullContainerError: pull image manifest has been retried 5 time(s): not found"


def title(task: FakeTask) -> str:
    return f"ECS task {task.id} on cluster default in us-east-1"


def settled(many: Passes) -> str:
    """What this pass writes, its times as TIME. The next one writes nothing more."""
    many.look()
    (message,) = many.written
    many.later(60)
    many.look()
    assert many.written == [message]
    assert message.endswith(SETTLED)
    return _TIME.sub("TIME", message.removesuffix(SETTLED))


def running(world: EcsWorld, many: Passes, **changes: object) -> tuple[FakeTask, FlowRun]:
    """A task and its flow run, seen alive."""
    task = world.aws.task(world.cluster, uuid4(), **changes)  # type: ignore[arg-type]
    run = many.run(task)
    lives = many.judged(run)
    assert (lives.verdict, lives.rule, lives.reason) == (Verdict.HEALTHY, "3", f"{title(task)} is running")
    return task, run


def waits(many: Passes, run: FlowRun, awaited: str) -> Finding:
    """It is not settled yet, and says what is awaited."""
    found = many.judged(run)
    assert (found.verdict, found.rule) == (Verdict.WAITING, "10")
    assert f"; awaited: {awaited}" in found.reason
    assert many.written == []
    return found


# --- E01: stopped by the platform, or by a person


@pytest.mark.parametrize("code", ["TerminationNotice", "SpotInterruption"])
def test_e01_spot_capacity_is_taken_away(world: EcsWorld, many: Passes, code: str) -> None:
    task, run = running(world, many)
    task.notice(code)
    noticed = many.judged(run)
    assert (noticed.verdict, noticed.rule, noticed.is_notable) == (Verdict.HEALTHY, "3", False)
    words = f"{title(task)} is about to be stopped: {code} (Your Spot Task was interrupted.)"
    assert noticed.reason == f"{words}; the run is Running for 6 min"
    many.later(600)
    assert many.judged(run).is_notable, "a notice is good for two minutes, and the run is 16 old"
    task.stop(ago=2)
    found = waits(many, run, "settle_failed of 10 s has not passed")
    assert found.observation
    assert found.observation.exit_code is None
    many.later(15)  # less than settle_zero: no code is not the code 0
    assert settled(many) == (
        f"{title(task)} stopped: {code} (Your Spot Task was interrupted.); "
        "container prefect ended without an exit code at TIME"
    )


def test_e01_a_user_stops_it_and_its_tags_are_gone(world: EcsWorld, many: Passes) -> None:
    task, run = running(world, many)
    client(world.aws).stop_task(cluster="default", task=task.arn, reason="maintenance")
    assert task.body["tags"] == []
    stops = many.judged(run)
    assert stops.verdict is Verdict.HEALTHY
    assert stops.reason.startswith(f"{title(task)} is about to be stopped: UserInitiated (maintenance)")
    task.stop(exits={"prefect": 143}, ago=2)
    many.later(15)
    assert settled(many) == (
        f"{title(task)} was stopped by a user (maintenance); container prefect exited with code 143 (SIGTERM) at TIME"
    )


@pytest.mark.parametrize("has_pid", [True, False])
def test_e01_stopped_by_a_user_without_a_pid(world: EcsWorld, many: Passes, has_pid: bool) -> None:
    """What was seen alive is found by its ARN, by another process too."""
    task = world.aws.task(world.cluster, run_id := uuid4())
    run = many.run(task if has_pid else None, run_id=run_id)
    assert many.judged(run).verdict is Verdict.HEALTHY
    client(world.aws).stop_task(cluster="default", task=task.arn)
    task.stop(ago=2)
    many.later(15)
    world.scope._owners = Owners()  # as in a new process: the core's memory alone is left
    said = "was stopped by a user (Task stopped by user); container prefect ended without an exit code at TIME"
    assert settled(many) == f"{title(task)} {said}"


# --- E02: it never started


@pytest.mark.parametrize(
    ("containers", "said"),
    [(None, "RESOURCE:GPU"), ({"prefect": PULL}, f"RESOURCE:GPU; {PULL}")],
    ids=["no container", "no image"],
)
def test_e02_from_pending(world: EcsWorld, many: Passes, containers: dict[str, int | str] | None, said: str) -> None:
    task = world.aws.task(world.cluster, uuid4(), last_status="PROVISIONING")
    run = many.run(task, state_type=StateType.PENDING, state_name="Pending")
    assert many.judged(run).reason.startswith(f"{title(task)} is being provisioned (PROVISIONING); the run is Pending")
    task.fail_to_start("RESOURCE:GPU", containers, ago=2)
    assert bool(task.body["containers"]) is bool(containers)
    waits(many, run, "settle_starting of 45 s has not passed")
    many.later(35)
    waits(many, run, "settle_starting of 45 s has not passed")
    many.later(15)
    assert settled(many) == f"{title(task)} could not be started: {said} at TIME"


def test_e02_while_running(world: EcsWorld, many: Passes) -> None:
    """A twin reported RUNNING, or Prefect was told so by hand: nothing else runs it now."""
    task = world.aws.task(world.cluster, uuid4(), last_status="PENDING")
    run = many.run(task)
    task.fail_to_start(PULL, {"prefect": PULL}, ago=2)
    run = many.becomes(run, StateType.RUNNING, state_since=many.now() - timedelta(minutes=6))
    waits(many, run, "settle_failed of 10 s has not passed")
    many.later(15)
    assert settled(many) == f"{title(task)} could not be started: {PULL} at TIME"


# --- E03: forgotten


def test_e03_a_task_that_ecs_no_longer_knows(world: EcsWorld, many: Passes) -> None:
    task, _ = running(world, many)
    task.stop(exits={"prefect": 1})
    many.later(3700)  # nobody looked
    assert settled(many) == (
        f"{title(task)} is not known to ECS (any more): it keeps stopped tasks for about an hour; "
        "last seen running TIME"
    )
    assert many.waited == [10.0], "a second look"


def test_e03_never_seen_but_named_by_its_pid(world: EcsWorld, many: Passes) -> None:
    """First contact: held for `quiet`, since nobody knows yet whether this is the right place."""
    run = many.run(f"default::{world.aws.unknown_task()}")
    held = many.judged(run)
    assert (held.verdict, held.guard) == (Verdict.HELD, "identity")
    many.later(240)
    title_ = f"ECS task {str(run.pid)[-32:]} on cluster default in us-east-1"
    assert settled(many) == f"{title_} is not known to ECS (any more): it keeps stopped tasks for about an hour"


# --- E04: throttled, denied, expired, many


def unknown(many: Passes, run: FlowRun, words: str) -> None:
    found = many.judged(run)
    assert (found.verdict, found.rule) == (Verdict.UNKNOWN, "4")
    assert words in found.reason
    assert many.written == []


def test_e04_an_empty_bucket_is_waited_for(world: EcsWorld, many: Passes) -> None:
    tasks = [world.aws.task(world.cluster, uuid4()) for _ in range(120)]
    runs = [many.run(task) for task in tasks]
    tasks[0].stop(exits={"prefect": 1}, ago=60)
    world.aws.limits[TASKS] = Limit(1, 12)
    found = {finding.run.id: finding.verdict for finding in many.look()}
    assert world.aws.throttled > 0
    assert found.pop(runs[0].id) is Verdict.ZOMBIE
    assert set(found.values()) == {Verdict.HEALTHY}


@pytest.mark.parametrize("action", ["DescribeTasks", "ListTasks", "DescribeClusters"])
def test_e04_denied(world: EcsWorld, many: Passes, action: str) -> None:
    task, run = running(world, many)
    task.forget()
    many.later(600)
    world.aws.denied = {f"ecs:{action}"}
    for _ in range(2):
        many.later(300)
        unknown(many, run, f": {action} was refused with AccessDeniedException (User: ")
        unknown(many, run, "); grant it; `reconcile check` prints the policy")
    world.aws.denied = set()
    assert many.judged(run).verdict is Verdict.ZOMBIE


def use(monkeypatch: pytest.MonkeyPatch, key: Credentials) -> None:
    for name, value in key.environment.items():
        monkeypatch.setenv(name, value)


def test_e04_expired_and_renewed_by_itself(world: EcsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, world.aws.access_key(expires=timedelta(minutes=30)))
    with passes(world) as many:
        task, run = running(world, many)
        many.later(3600)
        for _ in range(2):
            unknown(many, run, "GetCallerIdentity was refused with ExpiredToken")
            unknown(many, run, "; renew the credentials: they have expired")
        task.stop(exits={"prefect": 1}, ago=60)
        use(monkeypatch, world.aws.access_key(expires=timedelta(minutes=30)))
        message = settled(many)
    assert message == f"{title(task)} stopped: EssentialContainerExited; container prefect exited with code 1 at TIME"


def test_e04_one_call_for_a_hundred_tasks(world: EcsWorld, many: Passes) -> None:
    tasks = [world.aws.task(world.cluster, uuid4()) for _ in range(250)]
    runs = [many.run(task) for task in tasks]
    assert {finding.verdict for finding in many.look()} == {Verdict.HEALTHY}
    assert world.aws.calls["ecs:DescribeTasks"] == 3
    assert world.aws.calls["ecs:ListTasks"] == 0, "nothing is missed"
    tasks[7].forget()
    many.later(60)
    world.aws.reset_counts()
    found = {finding.run.id: finding.verdict for finding in many.look()}
    assert found.pop(runs[7].id) is Verdict.ZOMBIE
    assert set(found.values()) == {Verdict.HEALTHY}
    assert world.aws.calls["ecs:ListTasks"] == 2 * (3 + 1), "in each look: three pages of running ones, one of stopped"
    assert world.aws.calls["ecs:DescribeTasks"] == 3 + 1, "all of them, then the suspect; whose the others are is known"
