"""Scenarios E05 to E07 of ECS: other places, slow phases, and sidecars."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest

from reconciler.model import FlowRun, StateType, Verdict
from reconciler_adapters.ecs import EcsScope
from tests.ecs.fake import REGION, FakeTask, FaultKind
from tests.ecs.fake.task import STARTING, STOPPING
from tests.ecs.passes import Passes, passes
from tests.ecs.test_scenarios import running, settled, title, unknown, waits
from tests.ecs.world import EcsWorld
from tests.passes import identity_of

TASK = f"task/default/{'0a' * 16}"


# --- E05: another cluster, region or account


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize(
    "pid",
    [
        f"default::arn:aws:ecs:us-east-1:999999999999:{TASK}",
        f"default::arn:aws:ecs:eu-west-1:123456789012:{TASK}",
        f"default::arn:aws-cn:ecs:us-east-1:123456789012:{TASK}",
        f"other::arn:aws:ecs:us-east-1:123456789012:{TASK.replace('default', 'other')}",
        f"arn:aws:ecs:eu-west-1:123456789012:cluster/default::arn:aws:ecs:us-east-1:123456789012:{TASK}",
        "namespace:job",
        "4711",
    ],
)
def test_e05_what_the_pid_names_is_elsewhere(world: EcsWorld, pid: str, exclusive: bool) -> None:
    with passes(world, exclusive=exclusive) as many:
        run = many.run(pid)
        for _ in range(3):
            many.later(600)
            found = many.judged(run)
            assert (found.verdict, found.rule) == (Verdict.UNMANAGED, "5")
            short = pid if len(pid) <= 120 else f"{pid[:120]}..."
            assert found.reason == f"its infrastructure_pid '{short}' points outside scope 'prod'"
        assert many.written == []


@pytest.mark.parametrize("long_arn", [True, False])
def test_e05_a_cluster_of_the_same_name_in_another_region(world: EcsWorld, long_arn: bool) -> None:
    """Asked there, ECS would say MISSING."""
    world.aws.cluster("default", region="eu-west-1")
    scope = world.bind(region="eu-west-1")
    task = world.aws.task(world.cluster, uuid4(), long_arn=long_arn)
    with passes(world, scope=scope, exclusive=True) as many:
        run = many.run(task)
        for _ in range(2):
            many.later(600)
            assert many.judged(run).verdict is Verdict.UNMANAGED
        assert many.written == []
    scope.close()


def lose_cluster(world: EcsWorld, how: str) -> str:
    """The words for it."""
    if how == "never was":
        world.aws.forget_cluster(world.cluster)
    elif how == "not found by tasks":
        world.aws.fault(FaultKind.CLUSTER_NOT_FOUND, "ecs:DescribeTasks")
        return "DescribeTasks was refused with ClusterNotFoundException (Cluster not found.)"
    else:
        world.aws.cluster("default", status=how)
        return f"cluster 'default' is {how}: take it out of the option `clusters`, or make it anew"
    return "cluster 'default' does not exist in us-east-1 of account 123456789012"


@pytest.mark.parametrize("how", ["INACTIVE", "DEPROVISIONING", "FAILED", "never was", "not found by tasks"])
def test_e05_a_cluster_that_is_not_there_or_not_at_work(world: EcsWorld, many: Passes, how: str) -> None:
    task, run = running(world, many)
    task.untag()
    task.forget()
    many.later(600)
    words = lose_cluster(world, how)
    for _ in range(2):
        many.later(600)
        unknown(many, run, words)


class Swapped(EcsScope):
    """While it looks, and only then, the key is of another account, which has a cluster of the same name."""

    world: EcsWorld

    def observe(self, runs: Sequence[FlowRun], deadline: float):  # type: ignore[no-untyped-def]
        aws = self.world.aws
        home, aws.account = aws.account, "999999999999"
        try:
            return super().observe(runs, deadline)
        finally:
            aws.account = home


@pytest.mark.parametrize("long_arn", [True, False])
def test_e05_the_account_is_another_only_while_it_looks(world: EcsWorld, long_arn: bool) -> None:
    world.aws.cluster("default", account="999999999999")
    scope = Swapped("prod", {"region": REGION, "endpoint_url": world.aws.url})
    scope.world = world
    with passes(world, scope=scope, exclusive=True) as many:
        run = many.run(world.aws.task(world.cluster, uuid4(), long_arn=long_arn))
        for _ in range(3):
            many.later(600)
            unknown(many, run, "InvalidParameterException")
    scope.close()


def test_e05_another_account_than_the_pinned_one(world: EcsWorld) -> None:
    mine = identity_of(world.scope)
    with passes(world, pin=mine, exclusive=True) as many:
        _, run = running(world, many)
        world.replace_identity()
        other = mine.replace("123456789012", "999999999999")
        for _ in range(2):
            many.later(600)
            unknown(many, run, f"its identity is '{other}', but the configuration pins '{mine}'")


@pytest.mark.parametrize("has_pid", [True, False])
def test_e05_another_account_without_a_pin(world: EcsWorld, has_pid: bool) -> None:
    """What was seen in the former account says nothing of this one."""
    with passes(world, exclusive=True) as many:
        run_id = uuid4()
        task = world.aws.task(world.cluster, run_id)
        run = many.run(task if has_pid else None, run_id=run_id)
        assert many.judged(run).verdict is Verdict.HEALTHY
        world.replace_identity()
        for _ in range(3):
            many.later(600)
            assert many.judged(run).verdict is Verdict.UNMANAGED
        assert many.written == []


# --- E06: slow phases


WORDS = {
    "PROVISIONING": "is being provisioned",
    "PENDING": "is being started",
    "ACTIVATING": "is being activated",
}


@pytest.mark.parametrize("phase", [*STARTING, *STOPPING, "DELETED"])
def test_e06_only_stopped_is_an_end(world: EcsWorld, many: Passes, phase: str) -> None:
    task = world.aws.task(world.cluster, uuid4())
    state = StateType.PENDING if phase in STARTING else StateType.RUNNING
    name = state.value.title()
    run = many.run(task, state_type=state, state_name=name)
    if phase in STARTING:
        task.starting(phase)
        words = f"{WORDS[phase]} ({phase})"
    else:
        task.stopping(phase if phase in STOPPING else "DEPROVISIONING")
        task.body["lastStatus"] = phase
        words = f"is stopping ({phase}): EssentialContainerExited"
    for notable, age in ((False, "6 min"), (True, "46 min")):
        found = many.judged(run)
        assert (found.verdict, found.rule, found.is_notable) == (Verdict.HEALTHY, "3", notable)
        assert found.reason == f"{title(task)} {words}; the run is {name} for {age}"
        many.later(2400)
    assert many.written == []
    task.stop(ago=60)
    many.look()
    assert len(many.written) == 1


# --- E07: sidecars, and the code 0


SIDECARS = [
    (("prefect", "log"), {"prefect": 0, "log": 137}, "container prefect exited with code 0; container log exited with"),
    (("prefect",), {"prefect": 0}, "container prefect exited with code 0 at TIME"),
    (("flow",), {"flow": 0}, "container flow exited with code 0 at TIME"),
]


@pytest.mark.parametrize(("names", "exits", "words"), SIDECARS)
def test_e07_the_flow_ended_well_and_did_not_report(
    world: EcsWorld, many: Passes, names: Sequence[str], exits: dict[str, int | str], words: str
) -> None:
    task, run = running(world, many, containers=names)
    task.stop(exits=exits, ago=2)
    many.later(13)
    waits(many, run, "settle_zero of 30 s has not passed")
    many.later(20)
    message = settled(many)
    assert message.startswith(f"{title(task)} stopped: EssentialContainerExited; {words}")


def told(task: FakeTask, container: str, run_id: UUID | None) -> None:
    """That container is the one that was told which run to run."""
    task.body["overrides"]["containerOverrides"] = [
        {"name": "prefect"},
        {"name": container, "environment": [{"name": "PREFECT__FLOW_RUN_ID", "value": str(run_id)}]},
    ]


@pytest.mark.parametrize(
    ("names", "exits", "words"),
    [
        (("prefect", "log"), {"prefect": 137, "log": 0}, "container prefect exited with code 137 (SIGKILL)"),
        (("mine", "prefect"), {"mine": 9, "prefect": 0}, "container mine exited with code 9"),
        (("one", "two"), {"one": 0, "two": 3}, "container one exited with code 0; container two exited with code 3"),
        (("one", "two"), {}, "container one ended without an exit code; container two ended without an exit code"),
    ],
    ids=["sidecar well", "custom name", "several unknown", "no codes"],
)
def test_e07_the_flow_failed(
    world: EcsWorld, many: Passes, names: Sequence[str], exits: dict[str, int | str], words: str
) -> None:
    task, run = running(world, many, containers=names)
    if "mine" in names:
        told(task, "mine", run.id)
    elif "one" in names:
        told(task, "another", run.id)
    task.stop(exits=exits, ago=2)
    many.later(13)
    assert settled(many) == f"{title(task)} stopped: EssentialContainerExited; {words} at TIME"


def test_e07_out_of_memory(world: EcsWorld, many: Passes) -> None:
    task, _ = running(world, many)
    reason = "OutOfMemoryError: Container killed due to memory usage"
    task.stop(exits={"prefect": 137}, reasons={"prefect": reason}, ago=2)
    many.later(13)
    said = f"ran out of memory; container prefect exited with code 137 (SIGKILL): {reason} at TIME"
    assert settled(many) == f"{title(task)} {said}"


def test_e07_a_task_that_its_sidecar_keeps_alive(world: EcsWorld, many: Passes) -> None:
    """Only STOPPED is an end; but it is told."""
    task, run = running(world, many, containers=("prefect", "log"))
    task.body["containers"][0] |= {"lastStatus": "STOPPED", "exitCode": 0}
    many.later(900)
    found = many.judged(run)
    assert (found.verdict, found.is_notable) == (Verdict.HEALTHY, True)
    assert found.reason.startswith(f"{title(task)} runs on, but its container prefect exited with code 0; the run is")
    assert many.written == []


# --- Cancelled meanwhile


@pytest.mark.parametrize("code", [137, 143, 0, None])
def test_a_cancelling_run_whose_task_has_stopped(world: EcsWorld, many: Passes, code: int | None) -> None:
    """It is never proposed Crashed: whoever cancels it is to end it, and if nobody does, a person."""
    task, run = running(world, many)
    many.becomes(run, StateType.CANCELLING)
    task.stop(exits={} if code is None else {"prefect": code}, ago=2)
    many.later(30)
    waits = many.judged(run)
    assert (waits.verdict, waits.rule) == (Verdict.WAITING, "10")
    many.later(900)
    for _ in range(2):
        held = many.judged(run)
        assert (held.verdict, held.rule) == (Verdict.HELD, "9")
    assert many.written == []
