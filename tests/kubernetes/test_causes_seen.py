"""Why a resource ended, in one word, as a scope sees it from look to look."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

import pytest

from reconciler.model import Cause, Condition, FlowRun, Observation
from reconciler.testing import flow_run
from tests.kubernetes.apiserver.cluster_objects import Object, conditions, instant
from tests.kubernetes.world import KubernetesWorld, pid_of


def look(world: KubernetesWorld, run: FlowRun) -> Observation:
    (one,) = world.scope.observe([run], time.monotonic() + 20).observations[run.id]
    return one


def started(world: KubernetesWorld, **options: Any) -> tuple[FlowRun, Object, Object]:
    """A run that was seen alive, its Job and its pod."""
    job = world.cluster.job(run_id := uuid4(), **options)
    pod = world.cluster.pod(job)
    run = flow_run(pid_of(job), id=run_id)
    seen = look(world, run)
    assert (seen.condition, seen.cause, seen.why) == (Condition.ALIVE, None, None)
    return run, job, pod


def disrupt(world: KubernetesWorld, pod: Object, reason: str, phase: str = "Running") -> Object:
    target = {"reason": reason, "message": "by the test"}
    found = conditions(instant(), scheduled=True, ready=phase == "Running", DisruptionTarget=target)
    return world.cluster.set_pod(pod, phase=phase, conditions=found)


def test_evicted_by_the_kubelet(world: KubernetesWorld) -> None:
    run, job, pod = started(world)
    world.cluster.pod_evicted(pod)
    world.cluster.job_failed(job)
    seen = look(world, run)
    assert (seen.cause, seen.exit_code) == (Cause.EVICTED, None)
    assert "was evicted: The node was low on resource: memory." in seen.reason


def test_drained_and_no_pod_left(world: KubernetesWorld) -> None:
    """As on 1.33: the pod is gone a few seconds after its Job has Failed."""
    run, job, pod = started(world)
    disrupt(world, pod, "EvictionByEvictionAPI")
    world.cluster.delete(pod)
    stopping = look(world, run)
    assert (stopping.condition, stopping.cause) == (Condition.STOPPING, None)
    world.cluster.delete(pod, grace=0)
    world.cluster.job_failed(job)
    seen = look(world, run)
    assert (seen.condition, seen.cause) == (Condition.EXITED, Cause.EVICTED)
    world.cluster.delete(job)
    seen = look(world, run)
    assert (seen.condition, seen.cause) == (Condition.GONE, Cause.EVICTED)


def test_a_pod_that_came_after_a_drained_one_is_not_drained(world: KubernetesWorld) -> None:
    run, job, pod = started(world, backoff_limit=1)
    disrupt(world, pod, "EvictionByEvictionAPI")
    assert look(world, run).condition.is_live
    world.cluster.delete(pod, grace=0)
    world.cluster.pod(job)
    assert look(world, run).condition is Condition.ALIVE
    for one in world.pods(job):
        world.cluster.delete(one, grace=0)
    world.cluster.delete(job)
    seen = look(world, run)
    assert (seen.condition, seen.cause, seen.why) == (Condition.GONE, None, Cause.REMOVED)


def test_out_of_memory(world: KubernetesWorld) -> None:
    run, job, pod = started(world)
    world.cluster.pod_terminated(pod, 137, "OOMKilled")
    world.cluster.job_failed(job)
    assert look(world, run).cause is Cause.OOM_KILLED


def test_longer_than_it_may(world: KubernetesWorld) -> None:
    run, job, pod = started(world)
    world.cluster.delete(pod, grace=0)
    world.cluster.job_failed(job, "DeadlineExceeded", "Job was active longer than specified deadline")
    assert look(world, run).cause is Cause.DEADLINE_EXCEEDED


def test_never_started(world: KubernetesWorld) -> None:
    run, job, pod = started(world)
    waiting = world.cluster.pod_waiting(pod, "CreateContainerConfigError", 'secret "db" not found')
    assert look(world, run).cause is None, "it may yet start"
    world.cluster.set_pod(waiting, phase="Failed")
    world.cluster.job_failed(job)
    seen = look(world, run)
    assert (seen.condition, seen.cause) == (Condition.EXITED, Cause.FAILED_TO_START)


@pytest.mark.parametrize("state", ["gone", "not heard of"])
def test_its_node_is_lost(world: KubernetesWorld, state: str) -> None:
    run, job, pod = started(world)
    if state == "gone":
        world.cluster.http.delete("/api/v1/nodes/node-1").raise_for_status()
    else:
        world.cluster.node("node-1", "Unknown")
    world.cluster.delete(pod, grace=0)
    world.cluster.job_failed(job)
    over = look(world, run)
    world.cluster.delete(job)
    gone = look(world, run)
    assert (over.condition, gone.condition) == (Condition.EXITED, Condition.GONE)
    for seen in (over, gone):
        assert f"(its node node-1 is {state})" in seen.reason
        assert (seen.cause, seen.unseen_end) == (Cause.NODE_LOST, True)
    world.cluster.job(uuid4(), name=job["metadata"]["name"])
    other = look(world, run)
    assert (other.condition, other.cause) == (Condition.GONE, None), "it does not say so then"


def test_collected_with_its_node(world: KubernetesWorld) -> None:
    run, job, pod = started(world)
    disrupt(world, pod, "DeletionByPodGC", "Failed")
    world.cluster.job_failed(job)
    assert look(world, run).cause is Cause.NODE_LOST


def test_deleted_by_whomever(world: KubernetesWorld) -> None:
    run, job, pod = started(world)
    world.cluster.delete(pod, grace=0)
    world.cluster.delete(job)
    seen = look(world, run)
    assert (seen.condition, seen.cause, seen.why) == (Condition.GONE, None, Cause.REMOVED)
