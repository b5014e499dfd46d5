"""Scenario K09: a node is lost, and what ran there may run on out of sight."""

from __future__ import annotations

from uuid import uuid4

import pytest

from reconciler.model import Guard, Verdict
from tests.kubernetes.apiserver.cluster_objects import Object
from tests.kubernetes.passes import Passes, name_of
from tests.kubernetes.world import KubernetesWorld


def lost(world: KubernetesWorld, many: Passes) -> tuple[Object, Object]:
    job = world.cluster.job(run_id := uuid4())
    world.cluster.node("node-1")
    pod = world.cluster.pod(job)
    run = many.run(job, run_id=run_id)
    assert many.judged(run).verdict is Verdict.HEALTHY
    world.cluster.node("node-1", "Unknown")
    return job, world.cluster.pod_node_lost(pod)


def test_k09_nobody_knows_while_the_node_may_come_back(world: KubernetesWorld, many: Passes) -> None:
    job, pod = lost(world, many)
    failed, deleted = lambda: world.cluster.job_failed(job), lambda: world.cluster.delete(job)
    for step in (lambda: None, lambda: world.cluster.delete(pod), failed, deleted):
        step()
        many.later(300)
        (unknown,) = many.look()
        assert unknown.verdict is Verdict.UNKNOWN
        assert "cannot be seen" in unknown.reason
        assert "node-1" in unknown.reason
        assert "is not heard of; it may still run" in unknown.reason
    assert many.written == []


def test_k09_the_node_comes_back(world: KubernetesWorld, many: Passes) -> None:
    _, pod = lost(world, many)
    many.later(300)
    assert many.look()[0].verdict is Verdict.UNKNOWN
    world.cluster.node("node-1")
    world.cluster.set_pod(pod, conditions=[{"type": "Ready", "status": "True"}])
    assert many.look()[0].verdict is Verdict.HEALTHY
    assert many.written == []


def test_k09_gone_with_its_node_it_is_held_while_its_heartbeats_are_young(world: KubernetesWorld, many: Passes) -> None:
    job, pod = lost(world, many)
    (run,) = many.api.runs
    world.cluster.http.delete("/api/v1/nodes/node-1").raise_for_status()
    world.cluster.delete(pod, grace=0)
    world.cluster.job_failed(job)
    many.later(60)
    many.beats(run, ago=100)
    held = many.judged(run)
    assert (held.verdict, held.guard) == (Verdict.HELD, Guard.QUIET)
    assert "failed: BackoffLimitExceeded" in held.reason
    assert many.written == []
    many.later(200)
    many.look()
    assert len(many.written) == 1


def test_k09_the_whole_job_gone_with_its_node(world: KubernetesWorld, many: Passes) -> None:
    job, pod = lost(world, many)
    (run,) = many.api.runs
    world.cluster.http.delete("/api/v1/nodes/node-1").raise_for_status()
    world.cluster.delete(pod, grace=0)
    world.cluster.delete(job)
    many.later(60)
    many.beats(run, ago=100)
    held = many.judged(run)
    assert (held.verdict, held.guard) == (Verdict.HELD, Guard.QUIET)
    assert many.written == []
    many.later(200)
    many.look()
    (message,) = many.written
    assert f"{name_of(job)} on cluster lab no longer exists (its node node-1 is gone); last seen running " in message


@pytest.mark.parametrize("ready", ["True", "Unknown"], ids=["well", "lost"])
def test_k09_the_only_pod_vanished_and_its_node_may_vouch_for_it(
    world: KubernetesWorld, many: Passes, ready: str
) -> None:
    """Deleted by hand, or by the Job's controller: what a node that is well does not show has ended."""
    job = world.cluster.job(run_id := uuid4())
    pod = world.cluster.pod(job)
    run = many.run(job, run_id=run_id)
    assert many.judged(run).verdict is Verdict.HEALTHY
    world.cluster.delete(pod, grace=0)
    world.cluster.job_failed(job)
    world.cluster.node("node-1", ready)
    many.later(60)
    many.beats(run, ago=100)
    found = many.judged(run)
    if ready == "True":
        assert (found.verdict, len(many.written)) == (Verdict.ZOMBIE, 1)
    else:
        assert (found.verdict, found.guard) == (Verdict.HELD, Guard.QUIET)
        assert "(its node node-1 is not heard of)" in found.reason
        assert many.written == []


@pytest.mark.parametrize("deleted", [False, True], ids=["failed", "being deleted"])
def test_k09_two_pods_vanished_and_one_node_is_known(world: KubernetesWorld, many: Passes, deleted: bool) -> None:
    job = world.cluster.job(run_id := uuid4(), backoff_limit=1, finalizers=["example.org/hold"])
    pod = world.cluster.pod(job)
    run = many.run(job, run_id=run_id)
    assert many.judged(run).verdict is Verdict.HEALTHY
    world.cluster.delete(pod, grace=0)
    if deleted:
        world.cluster.set_job(job, failed=2)
        world.cluster.delete(job)
    else:
        world.cluster.job_failed(job, failed=2)
    many.later(60)
    many.judged(run, dry=True)  # a Job that is being deleted tells no time: its end counts from here
    many.later(60)
    many.beats(run, ago=100)
    held = many.judged(run)
    assert (held.verdict, held.guard) == (Verdict.HELD, Guard.QUIET)
    assert many.written == []


def test_k09_a_vanished_pod_is_not_covered_by_the_end_of_another(world: KubernetesWorld, many: Passes) -> None:
    """The first try ended where all could see it, the second on the node that was lost."""
    job = world.cluster.job(run_id := uuid4(), backoff_limit=1)
    world.cluster.pod_terminated(world.cluster.pod(job, node="node-0"), 1)
    second = world.cluster.pod(job)
    run = many.run(job, run_id=run_id)
    assert many.judged(run).verdict is Verdict.HEALTHY
    world.cluster.delete(second, grace=0)
    world.cluster.job_failed(job, failed=2)
    many.later(60)
    many.beats(run, ago=100)
    held = many.judged(run)
    assert (held.verdict, held.guard) == (Verdict.HELD, Guard.QUIET)
    assert many.written == []
