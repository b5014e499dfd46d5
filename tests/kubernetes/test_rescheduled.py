"""What an earlier attempt left behind must not speak for the present one: its node, its pods, its label."""

from __future__ import annotations

from uuid import uuid4

import pytest

from reconciler.looking import Asker
from reconciler.model import FlowRun, Guard, StateType, Verdict
from reconciler.ports import BoundScope
from tests.kubernetes.apiserver.cluster_objects import Object
from tests.kubernetes.passes import Passes
from tests.kubernetes.world import KubernetesWorld, pid_of


def new_process(many: Passes, world: KubernetesWorld) -> None:
    """As a pass by cron: what is left of the ones before is in the memory file."""
    old = many.outlook._askers[0]
    many.outlook._askers[0] = Asker(BoundScope(world.bind(), "kubernetes", old.bound.mapping, None), many.now)


def rescheduled(world: KubernetesWorld, many: Passes) -> FlowRun:
    """A run whose first Job failed on node-0, which stays well; pending again."""
    world.cluster.node("node-0")
    job = world.cluster.job(run_id := uuid4())
    pod = world.cluster.pod(job, node="node-0")
    run = many.run(job, run_id=run_id)
    assert many.judged(run).verdict is Verdict.HEALTHY
    world.cluster.pod_terminated(pod, 143)
    world.cluster.job_failed(job)
    many.becomes(run, StateType.SCHEDULED, "AwaitingRetry", retry_type="reschedule")
    many.later(60)
    run = many.becomes(run, StateType.PENDING, retry_type=None)
    many.later(10)
    many.now.settle()
    return run


def runs_in(many: Passes, run: FlowRun, job: Object) -> FlowRun:
    return many.becomes(run, StateType.RUNNING, retry_type=None, pid=pid_of(job))


@pytest.mark.parametrize("is_one_shot", [True, False], ids=["one pass a process", "daemon"])
@pytest.mark.parametrize("job_is", ["deleted", "failed"])
def test_the_node_of_the_first_attempt_vouches_for_nothing(
    world: KubernetesWorld, many: Passes, is_one_shot: bool, job_is: str
) -> None:
    def look() -> Verdict:
        if is_one_shot:
            new_process(many, world)
        return many.judged(run).verdict

    run = rescheduled(world, many)
    second = world.cluster.job(run.id)
    pod = world.cluster.pod(second, node="node-1")
    many.later(10)
    run = runs_in(many, run, second)
    assert look() is Verdict.HEALTHY
    world.cluster.node("node-1", "Unknown")
    world.cluster.pod_node_lost(pod)
    for _ in range(2):
        many.later(60)
        assert look() is Verdict.UNKNOWN
    world.cluster.http.delete("/api/v1/nodes/node-1").raise_for_status()
    world.cluster.delete(pod, grace=0)
    if job_is == "deleted":
        world.cluster.delete(second)
    else:
        world.cluster.job_failed(second)
    many.later(60)
    many.beats(run, ago=100)
    assert look() is Verdict.HELD
    assert many.judged(run).guard is Guard.QUIET
    assert many.written == []


def test_a_pod_seen_before_it_had_a_node(world: KubernetesWorld, many: Passes) -> None:
    """Then nobody looks for a while; it is bound, its node is lost, and all of it is deleted."""
    run = rescheduled(world, many)
    second = world.cluster.job(run.id)
    pod = world.cluster.pod(second, node=None)
    run = many.becomes(run, StateType.PENDING, retry_type=None, pid=pid_of(second))
    assert many.judged(run).verdict is Verdict.HEALTHY
    many.later(300)
    run = runs_in(many, run, second)
    many.later(300)
    world.cluster.delete(pod, grace=0)
    world.cluster.delete(second)
    many.beats(run, ago=100)
    held = many.judged(run)
    assert (held.verdict, held.guard) == (Verdict.HELD, Guard.QUIET)
    assert many.written == []


def test_labelled_pods_of_the_first_attempt_hide_no_unlabelled_one(world: KubernetesWorld, many: Passes) -> None:
    """The second attempt is an older worker's, which labels the Job alone; the Job is deleted, its pod lives on."""
    run = rescheduled(world, many)
    second = world.cluster.job(run.id)
    pod = world.cluster.pod(second)
    world.cluster.set_job(second, active=1)
    world.cluster.label(pod, **{"prefect.io/flow-run-id": None})
    many.later(10)
    run = runs_in(many, run, second)
    assert many.judged(run).verdict is Verdict.HEALTHY
    world.cluster.delete(second)
    many.later(120)
    assert many.judged(run).verdict is Verdict.HEALTHY
    assert many.written == []
