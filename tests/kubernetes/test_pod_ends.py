"""What pods mean that ended, as a table: JSON as the API server sends it, in; what is believed of it, out."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from reconciler.model import Cause
from reconciler_adapters.kubernetes.meaning import observe
from reconciler_adapters.kubernetes.resources import Wording
from tests.kubernetes.shapes import (
    EXITED,
    GONE_BY_GC,
    NOW,
    RUN,
    RUNNING,
    STARTING,
    STARTS,
    conditions,
    ended,
    job,
    judged,
    over,
    pod,
)

ENDED = {
    "killed": (
        pod("Failed", containers={"prefect-job": ended(137)}),
        137,
        False,
        "exited with code 137 (SIGKILL)",
        None,
    ),
    "done": (pod("Succeeded", containers={"prefect-job": ended(0, "Completed")}), 0, False, "exited with code 0", None),
    "done, says no more": (pod("Succeeded", containers={}), 0, False, "succeeded", None),
    "a signal that there is not": (
        pod("Failed", containers={"prefect-job": ended(255)}),
        255,
        False,
        "container prefect-job exited with code 255",
        None,
    ),
    "out of memory, no limit told": (
        pod("Failed", containers={"prefect-job": ended(137, "OOMKilled")}),
        137,
        False,
        "container prefect-job was OOMKilled (exit code 137)",
        Cause.OOM_KILLED,
    ),
    "its container's status is lost": (
        pod("Failed", containers={"prefect-job": ended(137, "ContainerStatusUnknown", message="could not be located")}),
        137,
        False,
        "exited with code 137 (SIGKILL): ContainerStatusUnknown - could not be located",
        None,
    ),
    "failed to start": (
        pod("Failed", containers={"prefect-job": ended(128, "StartError", message="exec: no\n such file")}),
        128,
        False,
        "StartError - exec: no such file",
        Cause.FAILED_TO_START,
    ),
    "an init container failed": (
        pod("Failed", containers={"prefect-job": STARTS}, init={"git": ended(128), "ok": ended(0)}),
        128,
        False,
        "container git exited with code 128",
        Cause.FAILED_TO_START,
    ),
    "the flow's end before the sidecar's": (
        pod("Failed", containers={"istio-proxy": ended(1), "prefect-job": ended(0)}),
        0,
        False,
        "container prefect-job exited with code 0",
        None,
    ),
    "whoever failed, if nobody knows the flow's": (
        pod("Failed", containers={"istio-proxy": ended(0), "main": ended(3)}),
        3,
        False,
        "container main exited with code 3",
        None,
    ),
    "evicted, and no statuses": (
        pod("Failed", containers={}, containerStatuses=None, reason="Evicted", message="low on memory. "),
        None,
        False,
        "was evicted: low on memory.",
        Cause.EVICTED,
    ),
    "refused by the kubelet": (
        pod("Failed", containers={}, reason="OutOfcpu", message="Node didn't have enough resource: cpu"),
        None,
        False,
        "failed: OutOfcpu - Node didn't have enough resource: cpu",
        Cause.FAILED_TO_START,
    ),
    "preempted": (
        pod(
            "Failed",
            containers={"prefect-job": ended(143)},
            conditions=conditions(DisruptionTarget={"status": "True", "reason": "PreemptionByScheduler"}),
        ),
        143,
        False,
        "was ended: PreemptionByScheduler; container prefect-job exited with code 143 (SIGTERM)",
        Cause.EVICTED,
    ),
    "a disruption that was called off": (
        pod(
            "Failed",
            containers={"prefect-job": ended(1)},
            conditions=conditions(DisruptionTarget={"status": "False", "reason": "PreemptionByScheduler"}),
        ),
        1,
        False,
        "container prefect-job exited with code 1",
        None,
    ),
    "given up with its node": (
        pod("Failed", reason="NodeLost"),
        None,
        True,
        "was given up, because its node node-1 was lost",
        Cause.NODE_LOST,
    ),
    "collected with its node": (
        pod("Failed", conditions=conditions(DisruptionTarget=GONE_BY_GC)),
        None,
        True,
        "was ended: DeletionByPodGC - PodGC: node no longer exists",
        Cause.NODE_LOST,
    ),
    "collected with its node, a sidecar having ended": (
        pod(
            "Failed",
            containers={"prefect-job": RUNNING, "istio-proxy": ended(0)},
            conditions=conditions(DisruptionTarget=GONE_BY_GC),
        ),
        None,
        True,
        "was ended: DeletionByPodGC",
        Cause.NODE_LOST,
    ),
    "collected with its node, which had last told of its start": (
        pod(
            "Failed",
            containers={"prefect-job": STARTS},
            conditions=conditions(DisruptionTarget=GONE_BY_GC),
        ),
        None,
        True,
        "was ended: DeletionByPodGC",
        Cause.NODE_LOST,
    ),
    "a sidecar lingers": (
        pod(containers={"prefect-job": ended(137), "istio-proxy": RUNNING}),
        137,
        False,
        "container prefect-job exited with code 137 (SIGKILL)",
        None,
    ),
    "a native sidecar lingers": (
        pod(containers={"prefect-job": ended(0, "Completed")}, init={"proxy": RUNNING}, policy="OnFailure"),
        0,
        False,
        "container prefect-job exited with code 0",
        None,
    ),
}


@pytest.mark.parametrize("case", ENDED)
def test_a_pod_that_ended(case: str) -> None:
    """Its end is the run's only by its Job's word."""
    seen, code, unseen, words, cause = ENDED[case]
    assert seen.condition is EXITED
    assert (seen.exit_code, seen.unseen_end, seen.cause) == (code, unseen, cause)
    assert words in seen.reason
    assert judged(job(limit=3), seen).condition is STARTING
    assert judged(job(limit=None), seen).condition is STARTING
    assert judged(job(spec={"podFailurePolicy": {"rules": []}}), seen).condition is STARTING
    assert judged(job(), seen).condition is (EXITED if seen.lingers else STARTING)
    assert judged(job(conditions=over("FailureTarget")), seen).condition is (EXITED if seen.lingers else STARTING)
    assert judged(job(), seen).cause is (cause if seen.lingers else None), "what has not ended has no cause"
    failed = judged(job(failed=1, conditions=over("Failed")), seen)
    assert (failed.condition, failed.exit_code, failed.unseen_end, failed.cause) == (EXITED, code, unseen, cause)
    assert failed.reason.startswith("failed: BackoffLimitExceeded; pod otter-x on node node-1 ")
    deleted = judged(job(deleted=True), seen)
    assert (deleted.condition, deleted.unseen_end, deleted.cause) == (EXITED, unseen, cause)
    (alone,) = observe([], [seen], RUN, Wording())
    assert (alone.condition, alone.unseen_end, alone.cause) == (EXITED, unseen, cause)
    assert alone.reason.endswith("; its Job no longer exists")


@pytest.mark.parametrize(
    ("finished", "at"),
    [
        (NOW, datetime(2026, 11, 22, 10, 0, 1, tzinfo=UTC)),
        ("2000-01-01T00:00:00Z", datetime(2000, 1, 1, 0, 0, 1, tzinfo=UTC)),
        ("8999-12-31T23:59:59Z", datetime(9000, 1, 1, tzinfo=UTC)),
        *((f"{year}-12-31T23:59:59Z", None) for year in ("0001", "1970", "1999", "9000", "9999")),
        (None, None),
    ],
)
def test_the_time_of_an_end_is_the_latest_that_it_can_have_been(finished: str | None, at: datetime | None) -> None:
    assert pod("Failed", containers={"prefect-job": ended(1, finishedAt=finished)}).ended_at == at
    assert judged(job(conditions=over("Failed", lastTransitionTime=finished))).ended_at == at


def test_what_a_program_wrote_about_its_end_is_not_told() -> None:
    seen = pod("Failed", containers={"prefect-job": ended(1, message="secret=hunter2")})
    assert "hunter2" not in seen.reason


def test_huge_messages_are_cut() -> None:
    seen = pod("Failed", containers={}, reason="Evicted", message="x " * 50_000)
    assert len(seen.reason) < 400
    message = judged(job(conditions=over("Failed", "DeadlineExceeded", message="y\n" * 50_000)))
    assert len(message.reason) < 400
    assert "\n" not in message.reason
