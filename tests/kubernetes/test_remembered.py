"""A run without a pid is known by its label alone. Once it was seen alive, its Job's name and UID do instead."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from reconciler.model import FlowRun, Verdict
from reconciler_adapters.kubernetes import reader as kubernetes_reader
from tests.kubernetes.apiserver.cluster_objects import Object
from tests.kubernetes.passes import Passes, name_of, passes
from tests.kubernetes.world import HOME, KubernetesWorld

RUN_LABEL = "prefect.io/flow-run-id"


def seen_alive(world: KubernetesWorld, many: Passes, **job: object) -> tuple[Object, Object, FlowRun]:
    """A Job, its pod, and their flow run without a pid."""
    made = world.cluster.job(run_id := uuid4(), **job)  # type: ignore[arg-type]
    pod = world.cluster.pod(made)
    run = many.run(None, run_id=run_id)
    assert many.judged(run).verdict is Verdict.HEALTHY
    return made, pod, run


def unlabel(world: KubernetesWorld, *objects: Object, to: UUID | None = None) -> None:
    for one in objects:
        world.cluster.label(one, **{RUN_LABEL: str(to) if to else None})


def lives(many: Passes, run: FlowRun, *verdicts: Verdict) -> str:
    """For pass after pass. The last reason."""
    for _ in range(3):
        many.later(600)
        found = many.judged(run)
        assert found.verdict in (verdicts or (Verdict.HEALTHY,)), found.reason
    assert many.written == []
    return found.reason


def settled(many: Passes) -> str:
    for _ in range(2):
        many.later(60)
        many.look()
    (message,) = many.written
    return message


def test_both_labels_off(world: KubernetesWorld, many: Passes) -> None:
    job, pod, run = seen_alive(world, many)
    unlabel(world, job, pod)
    assert lives(many, run) == f"Kubernetes Job {HOME}/{name_of(job)} on cluster lab is running"
    world.cluster.pod_terminated(pod, 137)
    world.cluster.job_failed(job)
    assert "failed: BackoffLimitExceeded; pod " in settled(many)


def test_then_it_is_deleted(world: KubernetesWorld, many: Passes) -> None:
    job, pod, run = seen_alive(world, many)
    unlabel(world, job, pod)
    lives(many, run)
    world.cluster.delete(pod, grace=0)
    world.cluster.delete(job)
    assert "was not found" in settled(many)


def test_between_two_tries(world: KubernetesWorld, many: Passes) -> None:
    job, pod, run = seen_alive(world, many, backoff_limit=3)
    unlabel(world, job, pod)
    world.cluster.delete(pod, grace=0)
    world.cluster.set_job(job, failed=1, active=None)
    assert "has no live pod (1 failed before)" in lives(many, run)


@pytest.mark.parametrize("is_disowned", [True, False])
def test_the_job_is_deleted_and_its_pod_runs_on(world: KubernetesWorld, many: Passes, is_disowned: bool) -> None:
    job, pod, run = seen_alive(world, many)
    unlabel(world, job, pod)
    world.cluster.delete(job, propagation="Orphan")
    world.cluster.finalize(job)
    if is_disowned:
        world.cluster._patch(pod, {"metadata": {"ownerReferences": None}})  # the garbage collector's part
    assert lives(many, run) == f"Kubernetes pod {HOME}/{name_of(pod)} on cluster lab is running"


def test_the_label_goes_from_the_job_first(world: KubernetesWorld, many: Passes) -> None:
    """So that its pod is what was seen alive last; then that one is gone, and the Job about to make another."""
    job, pod, run = seen_alive(world, many, backoff_limit=3)
    unlabel(world, job)
    lives(many, run)
    unlabel(world, pod)
    lives(many, run)
    world.cluster.delete(pod, grace=0)
    world.cluster.set_job(job, failed=1, active=None)
    reason = lives(many, run, Verdict.UNKNOWN)
    assert f"Job {HOME}/{name_of(job)}, the name of what was seen alive as this run's, carries no flow run" in reason


@pytest.mark.parametrize("has_pid", [True, False])
def test_the_label_is_another_runs_now(world: KubernetesWorld, many: Passes, has_pid: bool) -> None:
    """Whoever may edit a label could else have any run settled."""
    job, pod, run = seen_alive(world, many)
    if has_pid:
        many.api.runs = []
        run = many.run(job, run_id=run.id)
    other = uuid4()
    unlabel(world, job, pod, to=other)
    assert f"carries the id of flow run {other} now" in lives(many, run, Verdict.UNKNOWN)


def test_a_job_of_the_same_name_is_not_it(world: KubernetesWorld, many: Passes) -> None:
    job, pod, _ = seen_alive(world, many)
    unlabel(world, job, pod)
    world.cluster.delete(pod, grace=0)
    world.cluster.delete(job)
    many.later(5)
    world.cluster.pod(world.cluster.job(None, name=name_of(job)))
    assert "was not found" in settled(many)


def test_nor_is_that_of_another_run(world: KubernetesWorld, many: Passes) -> None:
    job, pod, _ = seen_alive(world, many)
    world.cluster.delete(pod, grace=0)
    world.cluster.delete(job)
    world.cluster.pod(world.cluster.job(uuid4(), name=name_of(job)))
    assert "was not found" in settled(many)


def test_a_pod_without_any_job(world: KubernetesWorld, many: Passes) -> None:
    """Nothing that Prefect makes; no name says where to look for it."""
    pod = world.cluster.pod(run_id=(run_id := uuid4()))
    world.cluster.label(pod, **{"job-name": None})
    run = many.run(None, run_id=run_id)
    assert many.judged(run).verdict is Verdict.HEALTHY
    unlabel(world, pod)
    assert "has no Job by whose name it could be looked up" in lives(many, run, Verdict.UNKNOWN)


def test_a_scope_looks_in_its_own_namespaces_only(world: KubernetesWorld) -> None:
    scope = world.bind(namespaces=[HOME])
    with passes(world, scope=scope) as many:
        job, pod, run = seen_alive(world, many)
        unlabel(world, job, pod)
        lives(many, run)
        world.front.calls.clear()
        many.look()
        assert {call.path.split("/namespaces/")[-1].split("/")[0] for call in world.front.calls} == {
            HOME,
            "kube-system",
        }
    scope.close()


def test_many_are_found_in_one_list_of_names(
    world: KubernetesWorld, many: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes_reader, "_MANY", 2)
    made = [seen_alive(world, many) for _ in range(4)]
    for job, pod, _ in made:
        unlabel(world, job, pod)
    world.cluster.delete(made[0][1], grace=0)
    world.cluster.delete(made[0][0])
    many.later(60)
    verdicts = {found.run.id: found.verdict for found in many.look(dry=True)}
    assert verdicts.pop(made[0][2].id) is not Verdict.HEALTHY
    assert set(verdicts.values()) == {Verdict.HEALTHY}
