"""What each state of a task means, as a table: pure, without any server."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid4

import msgspec
import pytest

from reconciler.model import Condition, Observation
from reconciler_adapters.ecs.meaning import gone, observe
from reconciler_adapters.ecs.names import ClusterName, TaskName
from reconciler_adapters.ecs.objects import Task

CLUSTER = ClusterName("aws", "eu-west-1", "123456789012", "prod")
ARN = f"arn:aws:ecs:eu-west-1:123456789012:task/prod/{'0a' * 16}"
NAME = TaskName(CLUSTER, ARN)
RUN = uuid4()
ENDED = 1_700_000_100.5


def task(status: str = "STOPPED", containers: object = (), **members: object) -> Task:
    rows = [{"name": "prefect", "exitCode": containers}] if isinstance(containers, int) else containers
    return msgspec.convert({"taskArn": ARN, "lastStatus": status, "containers": rows, **members}, Task)


def seen(one: Task) -> Observation:
    return observe(one, NAME, RUN)


def told(container: str, run_id: UUID = RUN) -> dict[str, object]:
    variables = [{"name": "PREFECT_API_KEY", "value": "secret"}, {"name": "PREFECT__FLOW_RUN_ID", "value": str(run_id)}]
    return {"containerOverrides": [{"name": "other"}, {"name": container, "environment": variables}]}


LIVES = [
    ("PROVISIONING", {}, Condition.STARTING, "is being provisioned (PROVISIONING)"),
    ("PENDING", {}, Condition.STARTING, "is being started (PENDING)"),
    ("ACTIVATING", {}, Condition.STARTING, "is being activated (ACTIVATING)"),
    ("RUNNING", {"desiredStatus": "RUNNING"}, Condition.ALIVE, "is running"),
    ("RUNNING", {"desiredStatus": "STOPPED"}, Condition.STOPPING, "is about to be stopped"),
    (
        "RUNNING",
        {
            "desiredStatus": "STOPPED",
            "stopCode": "TerminationNotice",
            "stoppedReason": "Your Spot\n Task was interrupted.",
        },
        Condition.STOPPING,
        "is about to be stopped: TerminationNotice (Your Spot Task was interrupted.)",
    ),
    ("RUNNING", {"stopCode": "SpotInterruption"}, Condition.STOPPING, "is about to be stopped: SpotInterruption"),
    ("DEACTIVATING", {}, Condition.STOPPING, "is stopping (DEACTIVATING)"),
    (
        "STOPPING",
        {"stopCode": "UserInitiated", "stoppedReason": "by ops"},
        Condition.STOPPING,
        "is stopping (STOPPING): UserInitiated (by ops)",
    ),
    (
        "DEPROVISIONING",
        {"stopCode": "EssentialContainerExited"},
        Condition.STOPPING,
        "is stopping (DEPROVISIONING): EssentialContainerExited",
    ),
    ("DELETED", {}, Condition.STOPPING, "is stopping (DELETED)"),
]


@pytest.mark.parametrize(("status", "members", "condition", "reason"), LIVES)
def test_only_stopped_is_an_end(status: str, members: dict[str, object], condition: Condition, reason: str) -> None:
    found = seen(task(status, **members))
    assert (found.condition, found.reason, found.exit_code) == (condition, reason, None)
    assert found.resource is not None
    assert found.resource.is_named_by(f"prod::{ARN}")


def test_a_status_that_nobody_knows_is_unknown() -> None:
    found = seen(task("HIBERNATING"))
    assert found.condition is Condition.UNKNOWN
    assert found.resource is not None, "it may be alive, and then it counts in every scope"
    assert found.reason == f"ECS task {ARN} has the status 'HIBERNATING'"


def test_a_task_that_runs_on_without_the_flow_s_container_says_so() -> None:
    rows = [{"name": "prefect", "lastStatus": "STOPPED", "exitCode": 1}, {"name": "log", "lastStatus": "RUNNING"}]
    found = seen(task("RUNNING", rows, desiredStatus="RUNNING"))
    assert found.condition is Condition.STOPPING, "only STOPPED is an end; but it is reported"
    assert found.reason == "runs on, but its container prefect exited with code 1"


ESSENTIAL = {"stopCode": "EssentialContainerExited", "stoppedReason": "Essential container in task exited"}
SPOT = {"stopCode": "SpotInterruption", "stoppedReason": "Your Spot Task was interrupted."}
OOM = "OutOfMemoryError: Container killed due to memory usage"
PULL = "CannotPullContainerError: pull image manifest has been retried 1 time(s)"
TWO = [{"name": "prefect", "exitCode": 0}, {"name": "log", "exitCode": 137}]

ENDS = [
    (137, ESSENTIAL, 137, "stopped: EssentialContainerExited; container prefect exited with code 137 (SIGKILL)"),
    (0, ESSENTIAL, 0, "stopped: EssentialContainerExited; container prefect exited with code 0"),
    (3, {}, 3, "stopped, and ECS does not say why; container prefect exited with code 3"),
    (
        [{"name": "prefect"}],
        SPOT,
        None,
        "stopped: SpotInterruption (Your Spot Task was interrupted.); container prefect ended without an exit code",
    ),
    (
        143,
        {"stopCode": "UserInitiated", "stoppedReason": "Task stopped by user"},
        143,
        "was stopped by a user (Task stopped by user); container prefect exited with code 143 (SIGTERM)",
    ),
    (
        [],
        {"stopCode": "TaskFailedToStart", "stoppedReason": "RESOURCE:GPU"},
        None,
        "could not be started: RESOURCE:GPU",
    ),
    (
        [{"name": "prefect", "reason": PULL}],
        {"stopCode": "TaskFailedToStart", "stoppedReason": "Task failed to start"},
        None,
        f"could not be started: Task failed to start; {PULL}",
    ),
    (
        [{"name": "prefect", "reason": PULL}],
        {"stopCode": "TaskFailedToStart", "stoppedReason": PULL},
        None,
        f"could not be started: {PULL}",
    ),
    ([], {"stopCode": "TaskFailedToStart"}, None, "could not be started: ECS does not say why"),
    (
        [{"name": "prefect", "exitCode": 137, "reason": OOM}],
        ESSENTIAL,
        137,
        f"ran out of memory; container prefect exited with code 137 (SIGKILL): {OOM}",
    ),
    (
        [{"name": "a", "exitCode": 143}, {"name": "b", "exitCode": 137, "reason": OOM}],
        ESSENTIAL,
        None,
        (
            "ran out of memory; container a exited with code 143 (SIGTERM); "
            f"container b exited with code 137 (SIGKILL): {OOM}"
        ),
    ),
    (
        [{"name": "prefect", "exitCode": 143}, {"name": "log", "exitCode": 137, "reason": OOM}],
        ESSENTIAL,
        143,
        (
            "stopped: EssentialContainerExited; container prefect exited with code 143 (SIGTERM); "
            f"container log exited with code 137 (SIGKILL): {OOM}"
        ),
    ),
    (
        TWO,
        ESSENTIAL,
        0,
        (
            "stopped: EssentialContainerExited; container prefect exited with code 0; "
            "container log exited with code 137 (SIGKILL)"
        ),
    ),
    (
        [{"name": "prefect", "exitCode": 137}, {"name": "log", "exitCode": 0}],
        ESSENTIAL,
        137,
        "stopped: EssentialContainerExited; container prefect exited with code 137 (SIGKILL)",
    ),
    (
        [{"name": "mine", "exitCode": 4}],
        ESSENTIAL,
        4,
        "stopped: EssentialContainerExited; container mine exited with code 4",
    ),
    (
        [{"name": "one", "exitCode": 0}, {"name": "two", "exitCode": 1}],
        {"stopCode": "NewCode", "stoppedReason": "never heard of"},
        None,
        "stopped: NewCode (never heard of); container one exited with code 0; container two exited with code 1",
    ),
    ([], {"stoppedReason": "gone with the wind"}, None, "stopped: gone with the wind"),
]


@pytest.mark.parametrize(("containers", "members", "code", "reason"), ENDS)
def test_why_it_ended(containers: object, members: dict[str, object], code: int | None, reason: str) -> None:
    found = seen(task("STOPPED", containers, stoppedAt=ENDED, executionStoppedAt=ENDED - 900, **members))
    assert (found.condition, found.exit_code, found.reason) == (Condition.EXITED, code, reason)
    assert found.ended_at == datetime.fromtimestamp(ENDED, UTC), "by AWS's clock: that of the host may be wrong"
    assert not found.unseen_end


def test_a_task_that_never_worked_ended_when_it_was_stopped() -> None:
    assert seen(task("STOPPED", [], stoppedAt=ENDED)).ended_at == datetime.fromtimestamp(ENDED, UTC)
    assert seen(task("STOPPED", [], executionStoppedAt=ENDED)).ended_at == datetime.fromtimestamp(ENDED, UTC)
    assert seen(task("STOPPED", [])).ended_at is None
    assert seen(task("STOPPED", [], stoppedAt=1e20)).ended_at is None


def test_the_flow_s_container_is_the_one_that_was_told_which_run_to_run() -> None:
    rows = [{"name": "prefect", "exitCode": 0}, {"name": "mine", "exitCode": 9}]
    assert seen(task("STOPPED", rows, overrides=told("mine"))).exit_code == 9
    assert seen(task("STOPPED", rows, overrides=told("not there"))).exit_code == 0


@pytest.mark.parametrize(
    "members",
    [
        {"stopCode": "UserInitiated", "stoppedReason": "Container instance deregistration forced by user"},
        {"stopCode": "InfrastructureHealth", "stoppedReason": "host is impaired"},
    ],
)
def test_an_end_that_ecs_only_infers_is_one_that_nobody_saw(members: dict[str, object]) -> None:
    assert seen(task("STOPPED", [{"name": "prefect"}], **members)).unseen_end


def test_a_host_that_was_terminated_took_its_tasks_along() -> None:
    assert not seen(task("STOPPED", [], stoppedReason="Host EC2 (instance i-0abc) terminated.")).unseen_end


def test_gone_names_the_task() -> None:
    found = gone(NAME, RUN)
    assert found.resource is not None
    assert found.resource.title == f"ECS task {'0a' * 16} on cluster prod in eu-west-1"
    assert found.reason == "is not known to ECS (any more): it keeps stopped tasks for about an hour"
    assert found.unseen_end
    assert found.resource.is_named_by(f"prod::{ARN}")


def test_of_the_environment_only_the_run_s_id_is_kept_apart_from_names() -> None:
    one = task("RUNNING", overrides=told("prefect"))
    assert one.told == RUN
    assert one.tagged is None
    for value in ("not-an-id", "", None):
        assert task("RUNNING", tags=[{"key": "prefect.io/flow-run-id", "value": value}]).tagged is None
    assert task("RUNNING", tags=[{"key": "x"}, {"key": "prefect.io/flow-run-id", "value": str(RUN)}]).tagged == RUN


class TestNames:
    @pytest.mark.parametrize(
        ("pid", "cluster"),
        [
            (f"prod::{ARN}", CLUSTER),
            (f"another::{ARN}", CLUSTER),  # what the ARN says counts
            (f"{CLUSTER.arn}::{ARN}", CLUSTER),
            (ARN, CLUSTER),
            (f"prod::arn:aws:ecs:eu-west-1:123456789012:task/{'0a' * 16}", CLUSTER),
            (f"{CLUSTER.arn}::arn:aws:ecs:eu-west-1:123456789012:task/{'0a' * 16}", CLUSTER),
            (
                "real::arn:aws:ecs:us-east-1:000000000000:task/real/0a0a0a0a-0b0b-0c0c-0d0d-0a0b0c0d0e0f",
                ClusterName("aws", "us-east-1", "000000000000", "real"),
            ),
            (
                f"x::arn:aws-cn:ecs:cn-north-1:123456789012:task/x/{'0a' * 16}",
                ClusterName("aws-cn", "cn-north-1", "123456789012", "x"),
            ),
        ],
    )
    def test_a_pid_names_a_task_of_a_cluster(self, pid: str, cluster: ClusterName) -> None:
        name = TaskName.parse(pid)
        assert name is not None
        assert name.cluster == cluster
        assert pid.endswith(name.arn)

    @pytest.mark.parametrize(
        "pid",
        [
            None,
            "",
            "::",
            "prod::",
            "4711",
            "ns:job",
            f"arn:aws:ecs:eu-west-1:123456789012:task/{'0a' * 16}",  # of which cluster?
            f"not a name::arn:aws:ecs:eu-west-1:123456789012:task/{'0a' * 16}",
            f"arn:aws:ecs:us-east-1:123456789012:cluster/prod::{ARN}",  # another region's cluster
            f"prod::{ARN}x",
            f"prod::{ARN[:-1]}",
            "prod::arn:aws:ecs:eu-west-1:123456789012:task/prod/not-an-id",
            "prod::arn:aws:ecs:eu-west-1:123456789012:service/prod/web",
            f"prod::{ARN}\n",
        ],
    )
    def test_anything_else_names_none(self, pid: str | None) -> None:
        assert TaskName.parse(pid) is None
