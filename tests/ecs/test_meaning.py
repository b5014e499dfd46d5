"""What each state of a task means, and what names mean, as tables: pure, without any server. Ends: `test_ends.py`."""

from __future__ import annotations

import shlex

import pytest

from reconciler.model import Condition
from reconciler_adapters.ecs.meaning import gone
from reconciler_adapters.ecs.names import ClusterName, TaskName
from tests.ecs.shapes import ARN, CLUSTER, NAME, RUN, seen, task, told

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
    assert found.cause is None, "it has not ended"
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


def test_how_a_person_would_stop_it() -> None:
    found = seen(task("RUNNING", desiredStatus="RUNNING"))
    assert found.resource is not None
    assert found.resource.removal == f"aws ecs stop-task --region eu-west-1 --cluster prod --task {ARN}"
    odd = TaskName(ClusterName("aws", "eu-west-1", "1", "a;b"), "arn $x")
    command = odd.removal
    assert shlex.split(command)[-3:] == ["a;b", "--task", odd.arn]


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
