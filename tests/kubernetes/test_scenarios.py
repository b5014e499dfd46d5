"""What users of Kubernetes suffer from, scenario by scenario: whole passes over the fake API server and a real one.

K01 to K05; the others are in `test_scenarios_*.py`.
"""

from __future__ import annotations

from uuid import uuid4

import pytest

from reconciler.model import StateType, Verdict
from tests.kubernetes.apiserver.cluster_objects import Object, running_status
from tests.kubernetes.passes import Passes, name_of
from tests.kubernetes.world import HOME, KubernetesWorld

SETTLED = "; no final state was reported. Set by prefect-reconciler."


# --- K01: evicted with backoffLimit 0, and rescheduled by Prefect


def test_k01_the_failed_job_of_an_earlier_attempt_says_nothing(world: KubernetesWorld, many: Passes) -> None:
    run_id, cluster = uuid4(), world.cluster
    first = cluster.job(run_id)
    pod = cluster.pod(first)
    run = many.run(first, run_id=run_id)
    assert many.judged(run).verdict is Verdict.HEALTHY
    cluster.pod_evicted(pod)
    cluster.job_failed(first)
    many.becomes(run, StateType.SCHEDULED, "AwaitingRetry")
    many.later(60)
    assert many.look() == []  # not in flight
    run = many.becomes(run, StateType.PENDING)
    for _ in range(3):
        many.later(60)
        waits = many.judged(run)
        assert waits.verdict is Verdict.WAITING
        assert "no infrastructure was found" in waits.reason
    second = cluster.job(run_id)
    pending = cluster.pod(second, phase="Pending")
    assert many.judged(run).verdict is Verdict.HEALTHY
    run = many.becomes(run, StateType.RUNNING)
    cluster.set_pod(pending, **running_status(pending))
    for _ in range(3):
        many.later(60)
        lives = many.judged(run)
        assert lives.verdict is Verdict.HEALTHY
        assert name_of(second) in lives.reason
        assert "it is not what the run's infrastructure_pid names" in lives.reason
    assert many.written == []


def test_k01_the_second_attempt_is_judged_by_its_own_job(world: KubernetesWorld, many: Passes) -> None:
    run_id, cluster = uuid4(), world.cluster
    first = cluster.job(run_id)
    cluster.pod_evicted(cluster.pod(first))
    cluster.job_failed(first)
    run = many.run(first, run_id=run_id)
    many.later(60)
    run = many.becomes(run, StateType.PENDING)
    many.later(60)
    second = cluster.job(run_id)
    pod = cluster.pod(second)
    run = many.becomes(run, StateType.RUNNING)
    assert many.judged(run).verdict is Verdict.HEALTHY
    many.later(60)
    cluster.pod_terminated(pod, 137)
    cluster.job_failed(second)
    many.later(60)
    many.look()
    (message,) = many.written
    assert f"Job {HOME}/{name_of(second)}" in message
    assert "exit" in message


# --- K02: the gap between two pods of one Job


def test_k02_no_pod_at_all_between_two_tries(world: KubernetesWorld, many: Passes) -> None:
    job = world.cluster.job(run_id := uuid4(), backoff_limit=3)
    pod = world.cluster.pod(job)
    run = many.run(job, run_id=run_id)
    many.look()
    world.cluster.pod_terminated(pod, 1)
    world.cluster.set_job(job, failed=1, active=None)
    many.later(60)
    tried = many.judged(run)
    assert tried.verdict is Verdict.HEALTHY
    assert "has no live pod (1 failed before)" in tried.reason
    world.cluster.delete(pod, grace=0)
    for _ in range(4):
        many.later(300)
        between = many.judged(run)
        assert between.verdict is Verdict.HEALTHY
        assert "has no live pod (1 failed before)" in between.reason
    assert between.is_notable  # after 15 min it is told
    world.cluster.pod(job)
    assert many.judged(run).reason.endswith("is running")
    assert many.written == []


def test_k02_a_pod_that_is_being_stopped(world: KubernetesWorld, many: Passes) -> None:
    job = world.cluster.job(run_id := uuid4())
    pod = world.cluster.pod(job)
    run = many.run(job, run_id=run_id)
    world.cluster.delete(pod)  # there is no kubelet, so it stays
    for _ in range(3):
        many.later(60)
        stops = many.judged(run)
        assert stops.verdict is Verdict.HEALTHY
        assert "has a pod that is being stopped" in stops.reason
    assert many.written == []


# --- K03 and K04: failed for good


@pytest.mark.parametrize(
    ("reason", "said", "has_pod"),
    [
        ("BackoffLimitExceeded", "Job has reached the specified backoff limit", True),
        ("DeadlineExceeded", "Job was active longer than specified deadline", False),
        ("PodFailurePolicy", "Container prefect-job failed with exit code 42 matching FailJob rule at index 0", True),
    ],
)
def test_k03_a_job_that_failed_for_good_is_settled_once(
    world: KubernetesWorld, many: Passes, reason: str, said: str, has_pod: bool
) -> None:
    job = world.cluster.job(run_id := uuid4(), backoff_limit=3)
    pod = world.cluster.pod(job)
    run = many.run(job, run_id=run_id)
    assert many.judged(run).verdict is Verdict.HEALTHY
    if has_pod:
        world.cluster.pod_terminated(pod, 42)
    else:
        world.cluster.delete(pod, grace=0)
    world.cluster.job_failed(job, reason, said)
    many.later(5)
    assert many.judged(run).verdict is Verdict.WAITING  # settle_failed is 10 s
    many.later(30)
    assert many.judged(run).verdict is Verdict.ZOMBIE
    many.look()
    (message,) = many.written
    assert message.startswith(f"Kubernetes Job {HOME}/{name_of(job)} on cluster lab failed: {reason}")
    assert message.endswith(SETTLED)
    died = f"; pod {name_of(pod)} on node node-1 ended: container prefect-job exited with code 42 at "
    assert (died if has_pod else f" - {said} at ") in message


def test_k04_out_of_memory(world: KubernetesWorld, many: Passes) -> None:
    job = world.cluster.job(run_id := uuid4(), memory_limit="512Mi")
    pod = world.cluster.pod(job)
    many.run(job, run_id=run_id)
    world.cluster.pod_terminated(pod, 137, "OOMKilled")
    world.cluster.job_failed(job)
    many.later(30)
    many.look()
    (message,) = many.written
    assert (
        f"failed: BackoffLimitExceeded; pod {name_of(pod)} on node node-1 ended: "
        "container prefect-job was OOMKilled over its limit of 512Mi (exit code 137) at "
    ) in message


def test_k04_out_of_memory_and_restarted_in_place(world: KubernetesWorld, many: Passes) -> None:
    job = world.cluster.job(run_id := uuid4(), memory_limit="512Mi", restart_policy="OnFailure", backoff_limit=3)
    pod = world.cluster.pod(job)
    run = many.run(job, run_id=run_id)
    world.cluster.pod_restarting(pod, 137, 1, "OOMKilled")
    many.later(60)
    restarts = many.judged(run)
    assert restarts.verdict is Verdict.HEALTHY
    assert "last: container prefect-job was OOMKilled over its limit of 512Mi (exit code 137)" in restarts.reason
    assert many.written == []


# --- K05: deleted


def sighted(world: KubernetesWorld, many: Passes) -> tuple[Object, Object]:
    """A Job and its pod, of a flow run that was seen alive."""
    job = world.cluster.job(run_id := uuid4())
    pod = world.cluster.pod(job)
    assert many.judged(many.run(job, run_id=run_id)).verdict is Verdict.HEALTHY
    many.later(60)
    return job, pod


def test_k05_job_and_pod_deleted(world: KubernetesWorld, many: Passes) -> None:
    job, pod = sighted(world, many)
    world.cluster.delete(job)
    world.cluster.delete(pod, grace=0)
    many.look()
    assert many.waited == [10.0]
    many.look()
    (message,) = many.written
    assert message.startswith(
        f"Kubernetes Job {HOME}/{name_of(job)} on cluster lab no longer exists; last seen running "
    )
    assert message.endswith(SETTLED)


def test_k05_the_job_is_deleted_and_its_pod_lives_on(world: KubernetesWorld, many: Passes) -> None:
    job, pod = sighted(world, many)
    world.cluster.delete(job, propagation="Orphan")
    world.cluster._patch(pod, {"metadata": {"ownerReferences": None}})  # the garbage collector's part
    world.cluster.finalize(job)
    (lives,) = many.look()
    assert lives.verdict is Verdict.HEALTHY
    assert f"Kubernetes pod {HOME}/{name_of(pod)} on cluster lab is running" in lives.reason
    world.cluster.delete(pod)
    many.later(60)
    (stops,) = many.look()
    assert stops.verdict is Verdict.HEALTHY
    assert "is being stopped" in stops.reason
    assert many.written == []
    world.cluster.delete(pod, grace=0)
    many.later(60)
    many.look()
    (message,) = many.written
    gone = f"Kubernetes pod {HOME}/{name_of(pod)} on cluster lab no longer exists"
    assert message.startswith(f"{gone}; last seen being stopped ")


def test_k05_swept_after_success_while_the_run_reports(world: KubernetesWorld, many: Passes) -> None:
    job, pod = sighted(world, many)
    (run,) = many.api.runs
    for gone in (job, pod):
        world.cluster.delete(gone, grace=0)
    many.api.before_reread = lambda: many.becomes(run, StateType.COMPLETED)
    assert many.look() == []
    assert many.look() == []
    assert many.written == []
