"""Workers before prefect-kubernetes 0.6.0 label the Job, not its pods, and have the cluster's UID in the pid."""

from __future__ import annotations

import time
from copy import deepcopy
from uuid import uuid4

import pytest

from reconciler.model import Condition, FlowRun, Observation, RunId, Verdict
from reconciler.ports import AdapterError
from reconciler.testing import Fault, flow_run
from tests.kubernetes.apiserver.cluster_objects import RUN_LABEL, Object
from tests.kubernetes.apiserver.faults import FAULTS, Answer, Call, Forward
from tests.kubernetes.passes import Passes, name_of, passes
from tests.kubernetes.world import HOME, KubernetesWorld, pid_of
from tests.passes import identity_of

PODS = "/api/v1/pods"


def older(world: KubernetesWorld, run_id: RunId, **job: object) -> tuple[Object, Object]:
    """A Job and its running pod, as an older worker and the controller leave them."""
    made = world.cluster.job(run_id, **job)  # type: ignore[arg-type]
    pod = world.cluster.label(world.cluster.pod(made), **{RUN_LABEL: None})
    return world.cluster.set_job(made, active=1), pod


def older_pid(world: KubernetesWorld, job: Object) -> str:
    return f"{world.cluster.namespace('kube-system')['metadata']['uid']}:{pid_of(job)}"


def said(world: KubernetesWorld, run: FlowRun) -> list[Observation]:
    world.front.calls.clear()
    return list(world.scope.observe([run], time.monotonic() + 15).observations[run.id])


def by_name(world: KubernetesWorld) -> list[Call]:
    return [call for call in world.front.calls if "job-name in (" in call.query.get("labelSelector", "")]


def stays_healthy(many: Passes, run: FlowRun, words: str, times: int = 3) -> None:
    for _ in range(times):
        many.later(300)
        lives = many.judged(run)
        assert lives.verdict is Verdict.HEALTHY
        assert words in lives.reason
    assert many.written == []


# What it costs


def test_a_job_that_has_an_active_pod_is_not_looked_up(world: KubernetesWorld) -> None:
    job, _ = older(world, run_id := uuid4())
    [seen] = said(world, flow_run(older_pid(world, job), id=run_id))
    assert (seen.condition, seen.reason) == (
        Condition.ALIVE,
        "still counts 1 active pod, of which none is seen alive",
    )
    assert len(world.front.calls) == 2


def test_runs_whose_pods_carry_their_ids_cost_no_list_by_name(world: KubernetesWorld) -> None:
    said(world, world.place(Condition.EXITED))
    assert by_name(world) == []
    said(world, world.place(Condition.GONE))
    assert [call.path for call in by_name(world)] == [PODS]


def test_each_configured_namespace_is_asked(world: KubernetesWorld) -> None:
    world.cluster.create_namespace("other")
    world.scope = world.bind(namespaces=[HOME, "other"], label_selector="team=blue")
    job, pod = older(world, run_id := uuid4())
    world.cluster.delete(job)
    [seen, _] = said(world, flow_run(pid_of(job), id=run_id))
    assert (seen.condition, seen.resource and seen.resource.id) == (Condition.ALIVE, pod["metadata"]["uid"])
    assert [call.path for call in by_name(world)] == [f"/api/v1/namespaces/{name}/pods" for name in ("other", HOME)]
    assert {call.query["labelSelector"] for call in by_name(world)} == {f"job-name in ({name_of(job)})"}


def test_more_of_them_than_a_selector_holds(world: KubernetesWorld) -> None:
    ids = [uuid4() for _ in range(105)]
    runs = [flow_run(f"{HOME}:otter-{number:03d}", id=run_id) for number, run_id in enumerate(ids)]
    job = world.cluster.job(None, name="otter-104")
    world.cluster.label(world.cluster.pod(job), **{RUN_LABEL: None})
    world.cluster.delete(job)
    world.front.calls.clear()
    seen = world.scope.observe(runs, time.monotonic() + 15).observations
    assert [one.condition for one in seen[ids[104]]] == [Condition.ALIVE, Condition.GONE]
    assert {one.condition for run_id in ids[:104] for one in seen[run_id]} == {Condition.GONE}
    assert [call.path for call in by_name(world)] == [PODS, PODS]


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.TIMEOUT])
def test_no_gone_without_that_list(world: KubernetesWorld, fault: Fault) -> None:
    def spoil(call: Call, forward: Forward) -> Answer | None:
        return FAULTS[fault](call, forward) if call in by_name(world) else forward()

    run = world.place(Condition.GONE)
    world.front.inject(spoil, path=PODS)
    with pytest.raises(AdapterError):
        said(world, run)


# Whose pods count


def test_unlabelled_pods_of_another_run_s_job_do_not_count(world: KubernetesWorld) -> None:
    """The name has passed to another run, whose worker is an older one, too."""
    run_id = uuid4()
    older(world, other := uuid4(), name="otter")
    for pid in (f"{HOME}:otter", f"{world.cluster.namespace('kube-system')['metadata']['uid']}:{HOME}:otter"):
        [seen] = said(world, flow_run(pid, id=run_id))
        assert seen.condition is Condition.GONE
        assert seen.reason == f"no longer exists: that name is now of a Job of flow run {other}"


def test_labelled_pods_of_another_run_do_not_count(world: KubernetesWorld) -> None:
    job = world.cluster.job(uuid4(), name="otter")
    world.cluster.pod(job)
    world.cluster.delete(job)
    assert [one.condition for one in said(world, flow_run(f"{HOME}:otter"))] == [Condition.GONE]


def test_pods_of_that_name_in_another_namespace_do_not_count(world: KubernetesWorld) -> None:
    world.cluster.create_namespace("other")
    job, _ = older(world, uuid4(), name="otter", namespace="other")
    world.cluster.delete(job)
    assert [one.condition for one in said(world, flow_run(f"{HOME}:otter"))] == [Condition.GONE]


def test_an_ended_pod_counts_only_for_the_job_that_owned_it(world: KubernetesWorld) -> None:
    """The name outlives the Job: a later ended pod of a former Job of that name is no cause."""
    job, pod = older(world, run_id := uuid4())
    former = deepcopy(job)
    former["metadata"]["uid"] = str(uuid4())
    world.cluster.pod_terminated(pod, 1)
    left = world.cluster.label(world.cluster.pod(former), **{RUN_LABEL: None})
    world.cluster.pod_terminated(left, 137, "OOMKilled")
    world.cluster.job_failed(job)
    run = flow_run(pid_of(job), id=run_id)
    [seen] = said(world, run)
    assert (seen.condition, seen.exit_code) == (Condition.EXITED, 1)
    assert "OOMKilled" not in seen.reason
    world.cluster.delete(job)
    assert [one.condition for one in said(world, run)] == [Condition.GONE], "both pods' Jobs are gone"


# Whole passes


def test_healthy_while_its_job_is(world: KubernetesWorld, many: Passes) -> None:
    job, _ = older(world, run_id := uuid4())
    run = many.run(older_pid(world, job), run_id=run_id)
    stays_healthy(many, run, "still counts 1 active pod, of which none is seen alive")
    world.cluster.set_job(job, active=None, failed=1)
    stays_healthy(many, run, "has no live pod (1 failed before)")


@pytest.mark.parametrize("was_seen", [True, False], ids=["seen before", "never seen"])
def test_the_job_is_deleted_and_its_pod_lives_on(world: KubernetesWorld, was_seen: bool) -> None:
    """The pid names this very cluster: without the pod there would be nothing left to wait for."""
    with passes(world, pin=identity_of(world.scope)) as many:
        job, pod = older(world, run_id := uuid4())
        run = many.run(older_pid(world, job), run_id=run_id)
        if was_seen:
            stays_healthy(many, run, "still counts 1 active pod", times=1)
        world.cluster.delete(job, propagation="Orphan")
        world.cluster._patch(pod, {"metadata": {"ownerReferences": None}})  # the garbage collector's part
        world.cluster.finalize(job)
        stays_healthy(many, run, f"Kubernetes pod {HOME}/{name_of(pod)} on cluster lab is running")
        world.cluster.delete(pod)
        stays_healthy(many, run, "is being stopped", times=1)
        world.cluster.delete(pod, grace=0)
        many.later(300)
        many.look()
        (message,) = many.written
        assert "no longer exists" in message


@pytest.mark.parametrize("active", [1, None], ids=["still counted", "counted no more"])
def test_deleted_in_the_foreground_with_its_pod_in_its_grace(
    world: KubernetesWorld, many: Passes, active: int | None
) -> None:
    job, pod = older(world, run_id := uuid4())
    run = many.run(older_pid(world, job), run_id=run_id)
    stays_healthy(many, run, "still counts 1 active pod", times=1)
    world.cluster.delete(job, propagation="Foreground")  # no garbage collector finishes it
    world.cluster.delete(pod, grace=600)
    world.cluster.set_job(job, active=active)
    counted = "still counts 1 active pod, of which none is seen alive"
    stays_healthy(many, run, counted if active else "has a pod that is being stopped")


def test_its_deadline_is_exceeded_with_its_pod_in_its_grace(world: KubernetesWorld, many: Passes) -> None:
    job, pod = older(world, run_id := uuid4())
    run = many.run(older_pid(world, job), run_id=run_id)
    stays_healthy(many, run, "still counts 1 active pod", times=1)
    world.cluster.delete(pod, grace=600)
    world.cluster.job_failed(job, "DeadlineExceeded", "Job was active longer than specified deadline")
    stays_healthy(many, run, f"is over, but pod {name_of(pod)} on node node-1 is being stopped")
    world.cluster.delete(pod, grace=0)
    many.later(60)
    many.look()
    (message,) = many.written
    assert "failed: DeadlineExceeded - Job was active longer than specified deadline" in message


def test_out_of_memory(world: KubernetesWorld, many: Passes) -> None:
    job, pod = older(world, run_id := uuid4(), memory_limit="512Mi")
    many.run(older_pid(world, job), run_id=run_id)
    many.look()
    world.cluster.pod_terminated(pod, 137, "OOMKilled")
    world.cluster.job_failed(job)
    many.later(60)
    many.look()
    (message,) = many.written
    died = f"pod {name_of(pod)} on node node-1 ended: container prefect-job was OOMKilled over its limit of 512Mi"
    assert f"failed: BackoffLimitExceeded; {died} (exit code 137) at " in message


def test_one_that_is_dead_is_settled(world: KubernetesWorld, many: Passes) -> None:
    job, pod = older(world, run_id := uuid4())
    many.run(older_pid(world, job), run_id=run_id)
    many.look()
    world.cluster.delete(pod, grace=0)
    world.cluster.delete(job)
    many.later(300)
    many.look()
    (message,) = many.written
    assert message.startswith(f"Kubernetes Job {HOME}/{name_of(job)} on cluster lab no longer exists; last seen ")


def test_one_whose_node_is_lost(world: KubernetesWorld, many: Passes) -> None:
    job, pod = older(world, run_id := uuid4())
    run = many.run(older_pid(world, job), run_id=run_id)
    world.cluster.node("node-1", "Unknown")
    world.cluster.pod_node_lost(pod)
    world.cluster.job_failed(job)
    many.later(300)
    unknown = many.judged(run)
    assert unknown.verdict is Verdict.UNKNOWN
    assert "is not heard of; it may still run" in unknown.reason
    assert many.written == []
