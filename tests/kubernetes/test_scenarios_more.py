"""Scenarios K06, K08, K10, K11 and K14: what else Jobs and their pods mean for a run."""

from __future__ import annotations

from uuid import uuid4

import pytest

from reconciler.model import StateType, Verdict
from tests.kubernetes.apiserver.cluster_objects import Object
from tests.kubernetes.passes import Passes, name_of
from tests.kubernetes.world import HOME, KubernetesWorld


def test_k06_complete_and_still_running(world: KubernetesWorld, many: Passes) -> None:
    job = world.cluster.job(run_id := uuid4())
    world.cluster.pod_terminated(world.cluster.pod(job), 0, "Completed", phase="Succeeded")
    world.cluster.job_complete(job)
    run = many.run(job, run_id=run_id)
    many.later(20)
    waits = many.judged(run)
    assert waits.verdict is Verdict.WAITING
    assert "settle_zero of 30 s has not passed" in waits.reason
    many.later(20)
    many.look()
    (message,) = many.written
    assert f"Kubernetes Job {HOME}/{name_of(job)} on cluster lab completed; pod " in message
    assert "exited with code 0 at " in message


# --- K08: pending for long


def test_k08_no_node_for_the_pod(world: KubernetesWorld, many: Passes) -> None:
    job = world.cluster.job(run_id := uuid4())
    pod = world.cluster.pod(job, phase="Pending", node=None)
    world.cluster.pod_unschedulable(pod)
    stays_healthy(many, job, run_id, "has a pod that is not scheduled: Unschedulable - 0/3 nodes are available: 3 ")


def test_k08_no_image_for_the_pod(world: KubernetesWorld, many: Passes) -> None:
    job = world.cluster.job(run_id := uuid4())
    pod = world.cluster.pod(job, phase="Pending")
    world.cluster.pod_waiting(pod, "ImagePullBackOff", 'Back-off pulling image "prefect:no"')
    said = 'container prefect-job: ImagePullBackOff - Back-off pulling image "prefect:no"'
    stays_healthy(many, job, run_id, f"has a pod that has not started: {said}")


def test_k08_no_pod_yet(world: KubernetesWorld, many: Passes) -> None:
    stays_healthy(many, world.cluster.job(run_id := uuid4()), run_id, "has no live pod")


def test_k08_suspended(world: KubernetesWorld, many: Passes) -> None:
    job = world.cluster.job(run_id := uuid4(), suspend=True)
    knows = "suspend" in job["spec"]  # not in 1.20
    stays_healthy(many, job, run_id, "is suspended" if knows else "has no live pod")


def stays_healthy(many: Passes, job: Object, run_id: object, words: str) -> None:
    """However long it takes; and it is told after 15 minutes."""
    run = many.run(job, run_id=run_id, state_type=StateType.PENDING, state_name="Pending", run_count=0)  # type: ignore[arg-type]
    for minutes, told in ((1, False), (15, True), (600, True)):
        many.later(minutes * 60)
        waits = many.judged(run)
        assert waits.verdict is Verdict.HEALTHY
        assert words in waits.reason
        assert waits.is_notable is told
    assert many.written == []


# --- K10 and K11: containers


def test_k10_restarted_in_place(world: KubernetesWorld, many: Passes) -> None:
    job = world.cluster.job(run_id := uuid4(), restart_policy="OnFailure", backoff_limit=6)
    pod = world.cluster.pod(job)
    run = many.run(job, run_id=run_id)
    world.cluster.pod_restarting(pod, 137, 2, "OOMKilled")
    world.cluster.set_job(job, active=1)
    for _ in range(3):
        many.later(300)
        restarts = many.judged(run)
        assert restarts.verdict is Verdict.HEALTHY
        assert "(restarted 2 times; CrashLoopBackOff; last: container prefect-job was OOMKilled" in restarts.reason
    assert many.written == []


def with_sidecar(world: KubernetesWorld, many: Passes, backoff_limit: int) -> Object:
    """The flow's container has ended, and istio-proxy keeps the pod Running."""
    containers = ("prefect-job", "istio-proxy")
    job = world.cluster.job(run_id := uuid4(), containers=containers, backoff_limit=backoff_limit)
    pod = world.cluster.pod(job, containers=containers)
    many.judged(many.run(job, run_id=run_id))
    world.cluster.pod_terminated(pod, 137, phase="Running")
    many.later(60)
    return pod


def test_k11_a_sidecar_outlives_the_flow_for_good(world: KubernetesWorld, many: Passes) -> None:
    pod = with_sidecar(world, many, backoff_limit=0)
    many.look()
    (message,) = many.written
    died = f"pod {name_of(pod)} on node node-1 ended: container prefect-job exited with code 137 (SIGKILL)"
    assert f"will not run again: {died} at " in message


def test_k11_a_sidecar_outlives_the_flow_with_tries_left(world: KubernetesWorld, many: Passes) -> None:
    pod = with_sidecar(world, many, backoff_limit=2)
    for _ in range(3):
        many.later(300)
        (finding,) = many.look()
        assert finding.verdict is Verdict.HEALTHY
        assert "goes on only when the other containers have ended: " in finding.reason
        assert f"pod {name_of(pod)} on node node-1 ended: container prefect-job exited with code 137" in finding.reason
    assert many.written == []


@pytest.mark.parametrize("code", [0, 1, 137])
def test_k11_the_end_of_a_sidecar_that_stands_first(world: KubernetesWorld, many: Passes, code: int) -> None:
    containers = ("istio-proxy", "main")
    job = world.cluster.job(run_id := uuid4(), containers=containers)
    pod = world.cluster.pod(job, containers=containers)
    run = many.run(job, run_id=run_id)
    world.cluster.pod_terminated(pod, code, container="istio-proxy", phase="Running")
    many.later(600)
    assert many.judged(run).verdict is Verdict.HEALTHY
    assert many.written == []


def test_k10_times_that_are_none(world: KubernetesWorld, many: Passes) -> None:
    """Whoever may write a status may write any year; other runs are seen all the same."""
    years = ("0001", "1970", "9999")
    for year in years:
        job = world.cluster.job(run_id := uuid4())
        pod = world.cluster.pod_terminated(world.cluster.pod(job), 137)
        stamp = f"{year}-12-31T23:59:59Z"
        pod["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"] = stamp
        world.cluster.set_pod(pod, containerStatuses=pod["status"]["containerStatuses"])
        failed = world.cluster.job_failed(job)["status"]["conditions"]
        world.cluster.set_job(job, conditions=[failed[0] | {"lastTransitionTime": stamp}])
        many.run(job, run_id=run_id)
    healthy = world.cluster.job(run_id := uuid4())
    world.cluster.pod(healthy)
    run = many.run(healthy, run_id=run_id)
    for _ in range(3):
        many.later(60)
        assert many.judged(run).verdict is Verdict.HEALTHY
    assert len(many.written) == len(years)
    assert not any(year in message for message in many.written for year in years)


# --- K14: the worker's observer waits up to 30 s before it reports


def died_starting(world: KubernetesWorld, many: Passes) -> None:
    job = world.cluster.job(run_id := uuid4())
    pod = world.cluster.pod(job)
    many.run(job, run_id=run_id, state_type=StateType.PENDING, state_name="InfrastructurePending", run_count=0)
    assert many.look()[0].verdict is Verdict.HEALTHY
    world.cluster.pod_terminated(pod, 1)
    world.cluster.job_failed(job)
    many.later(25)
    (waits,) = many.look()
    assert waits.verdict is Verdict.WAITING
    assert "settle_starting of 45 s has not passed" in waits.reason


def test_k14_the_observer_is_slow(world: KubernetesWorld, many: Passes) -> None:
    died_starting(world, many)
    many.becomes(many.api.runs[0], StateType.CRASHED)
    many.later(60)
    assert many.look() == []
    assert many.written == []


def test_k14_the_observer_is_dead(world: KubernetesWorld, many: Passes) -> None:
    died_starting(world, many)
    many.later(25)
    many.look()
    (message,) = many.written
    assert "failed: BackoffLimitExceeded" in message
    assert "container prefect-job exited with code 1 at " in message
