"""What pods mean that live or may, as a table: JSON as the API server sends it, in; what is believed of it, out."""

from __future__ import annotations

import pytest

from tests.kubernetes.shapes import (
    ALIVE,
    LOST,
    NAMES_MAIN,
    NOW,
    RULES,
    RUNNING,
    STARTING,
    STARTS,
    STOPPING,
    UNKNOWN,
    conditions,
    ended,
    job,
    judged,
    over,
    pod,
)

LIVING = {
    "runs": (pod(), ALIVE, "is running"),
    "no status of its container yet": (pod(containers={}, containerStatuses=None), ALIVE, "is running"),
    "no conditions": (pod(conditions=None), ALIVE, "is running"),
    "not ready, by its probe": (pod(conditions=conditions(Ready="False", ContainersReady="False")), ALIVE, "running"),
    "not ready, by a gate": (
        pod(conditions=conditions(Ready={"status": "False", "reason": "ReadinessGatesNotReady"})),
        ALIVE,
        "is running",
    ),
    "restarts in place": (
        pod(containers={"prefect-job": ended(1)}, policy="OnFailure"),
        ALIVE,
        "waits to be restarted",
    ),
    "restarts by rules of its own": (
        pod(containers={"prefect-job": ended(42)}, specs={"prefect-job": RULES}),
        ALIVE,
        "waits to be restarted (restarted 0 times; last: container prefect-job exited with code 42)",
    ),
    "restarts by a policy of its own": (
        pod(containers={"prefect-job": ended(1)}, specs={"prefect-job": {"restartPolicy": "Always"}}),
        ALIVE,
        "waits to be restarted",
    ),
    "restarts by rules of its sidecar": (
        pod(containers={"prefect-job": ended(1), "istio-proxy": RUNNING}, specs={"istio-proxy": RULES}),
        ALIVE,
        "waits to be restarted",
    ),
    # it says what people look at by default, and anybody may write it: not proof enough to end a run
    "an annotation names the container that ended": (
        pod(containers={"istio-proxy": RUNNING, "main": ended(1)}, metadata=NAMES_MAIN),
        ALIVE,
        "is running",
    ),
    "its sidecar ended": (pod(containers={"istio-proxy": ended(0), "prefect-job": RUNNING}), ALIVE, "is running"),
    "who runs the flow?": (pod(containers={"istio-proxy": ended(1), "main": RUNNING}), ALIVE, "is running"),
    "all of several ended, and the phase does not say so": (
        pod(containers={"a": ended(1), "b": ended(0)}),
        ALIVE,
        "is running",
    ),
    "a native sidecar ended": (pod(init={"proxy": ended(137)}), ALIVE, "is running"),
    "an init container failed once": (
        pod("Pending", containers={"prefect-job": STARTS}, init={"git": ended(128)}),
        STARTING,
        "has not started: container git exited with code 128",
    ),
    "an init container crash-loops": (
        pod("Pending", containers={"prefect-job": STARTS}, init={"git": {"waiting": {"reason": "CrashLoopBackOff"}}}),
        STARTING,
        "has not started: container git: CrashLoopBackOff",
    ),
    "a native sidecar runs first": (
        pod("Pending", containers={"prefect-job": STARTS}, init={"proxy": RUNNING}),
        STARTING,
        "is starting",
    ),
    "unschedulable": (
        pod(
            "Pending",
            containers={},
            conditions=[
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3\n nodes"}
            ],
        ),
        STARTING,
        "is not scheduled: Unschedulable - 0/3 nodes",
    ),
    "nothing is known": (pod("Pending", containers={}, conditions=None), STARTING, "is starting"),
    "being deleted": (pod(metadata={"deletionTimestamp": NOW}), STOPPING, "is being stopped"),
    "being evicted": (
        pod(
            metadata={"deletionTimestamp": NOW},
            conditions=conditions(DisruptionTarget={"status": "True", "reason": "EvictionByEvictionAPI"}),
        ),
        STOPPING,
        "is being stopped: EvictionByEvictionAPI",
    ),
    "its node is lost": (pod(conditions=LOST), UNKNOWN, "is not heard of; it may still run"),
    "being deleted on a lost node": (
        pod(conditions=LOST, metadata={"deletionTimestamp": NOW}),
        UNKNOWN,
        "is not heard of; it may still run",
    ),
    "NodeLost": (pod(reason="NodeLost"), UNKNOWN, "is not heard of"),
    "the phase Unknown": (pod("Unknown"), UNKNOWN, "is not heard of"),
    "a phase to come": (pod("Hibernating"), UNKNOWN, "is in the phase 'Hibernating', which this version does not know"),
    "no phase": (pod(None), UNKNOWN, "is in the phase 'None'"),
}


@pytest.mark.parametrize("case", LIVING)
def test_a_pod_that_lives_or_may(case: str) -> None:
    seen, condition, words = LIVING[case]
    assert seen.condition is condition
    assert words in seen.reason
    assert judged(job(), seen).condition is condition
    assert judged(job(deleted=True), seen).condition is condition
    over_already = judged(job(conditions=over("Failed")), seen)
    assert over_already.condition is (UNKNOWN if condition is UNKNOWN else STOPPING)
