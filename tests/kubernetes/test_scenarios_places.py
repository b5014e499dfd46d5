"""Scenarios K05 (namespaces), K12 and K13: other namespaces, clusters and tenants, and runs that are over."""

from __future__ import annotations

import time
from uuid import uuid4

import pytest

from reconciler.model import FlowRun, StateType, Verdict
from tests.kubernetes.apiserver.cluster_objects import Object
from tests.kubernetes.passes import Passes, name_of, passes
from tests.kubernetes.world import HOME, KubernetesWorld, pid_of
from tests.passes import identity_of


def sighted(world: KubernetesWorld, many: Passes) -> tuple[Object, FlowRun]:
    """A Job, and its flow run that was seen alive."""
    job = world.cluster.job(run_id := uuid4())
    world.cluster.pod(job)
    run = many.run(job, run_id=run_id)
    assert many.judged(run).verdict is Verdict.HEALTHY
    many.later(60)
    return job, run


def never_judged(many: Passes, run: FlowRun, *words: str) -> None:
    for _ in range(3):
        many.later(600)
        finding = many.judged(run)
        assert finding.verdict is Verdict.UNMANAGED
        for word in words:
            assert word in finding.reason
    assert many.written == []


def test_k05_with_its_namespace(world: KubernetesWorld, many: Passes) -> None:
    job, _ = sighted(world, many)
    world.cluster.remove_namespace(HOME)
    many.look()
    (message,) = many.written
    assert message.startswith(f"Kubernetes Job {HOME}/{name_of(job)} on cluster lab ")
    assert f"exist, nor does its namespace {HOME}; last seen running " in message


def test_k05_a_namespace_that_was_never_there_counts_for_nothing(world: KubernetesWorld) -> None:
    with passes(world, exclusive=True, pin=identity_of(world.scope)) as many:
        run = many.run("elsewhere:wise-otter-abcde")
        never_judged(many, run, "nor does its namespace elsewhere, and nothing of this attempt was ever seen")


# --- K12: reverse zombies


def test_k12_a_crashed_run_whose_pod_lives_is_a_stranger(world: KubernetesWorld, many: Passes) -> None:
    job, run = sighted(world, many)
    many.becomes(run, StateType.CRASHED)
    for _ in range(2):
        many.later(600)
        assert many.look() == []
    (stranger,) = world.scope.observe([], time.monotonic() + 20).strangers
    assert (stranger.run_id, stranger.id) == (run.id, job["metadata"]["uid"])
    assert many.written == []
    assert world.cluster.get(job) is not None


# --- K13: other clusters, namespaces, tenants


def test_k13_a_run_in_a_namespace_outside_the_scope(world: KubernetesWorld) -> None:
    world.cluster.create_namespace("team-b")
    job = world.cluster.job(run_id := uuid4(), namespace="team-b")
    world.cluster.pod_terminated(world.cluster.pod(job), 1)
    world.cluster.job_failed(job)
    scope = world.bind(namespaces=[HOME])
    with passes(world, scope=scope, exclusive=True, pin=identity_of(scope)) as many:
        run = many.run(job, run_id=run_id)
        never_judged(many, run, f"its infrastructure_pid '{pid_of(job)}' points outside scope 'lab'")
    scope.close()


def test_k13_a_pid_of_another_cluster(world: KubernetesWorld) -> None:
    """Of before prefect-kubernetes 0.6.0, with the cluster's UID."""
    job = world.cluster.job(uuid4())
    with passes(world, exclusive=True, pin=identity_of(world.scope)) as many:
        never_judged(many, many.run(f"{uuid4()}:{pid_of(job)}"), "points outside scope 'lab'")


def test_a_pid_that_names_this_cluster_needs_no_sighting(world: KubernetesWorld) -> None:
    with passes(world, pin=(uid := identity_of(world.scope))) as many:
        many.run(f"{uid}:{HOME}:wise-otter-abcde")
        many.later(60)
        many.look()
        (message,) = many.written
        assert message.startswith(f"Kubernetes Job {HOME}/wise-otter-abcde on cluster lab no longer exists; ")


def test_k13_a_pid_that_names_no_cluster_and_was_never_seen(world: KubernetesWorld, many: Passes) -> None:
    never_judged(many, many.run(f"{HOME}:wise-otter-abcde"), "never seen in scope 'lab', and others may run it")


@pytest.mark.parametrize("is_pinned", [True, False])
def test_k13_another_cluster_answers(world: KubernetesWorld, is_pinned: bool) -> None:
    own = identity_of(world.scope)
    with passes(world, pin=own if is_pinned else None) as many:
        job, run = sighted(world, many)
        world.cluster.delete(job)
        for pod in world.pods(job):
            world.cluster.delete(pod, grace=0)
        many.disguise = own.encode(), str(uuid4()).encode()
        for _ in range(3):
            many.later(600)
            finding = many.judged(run)
            assert finding.verdict is (Verdict.UNKNOWN if is_pinned else Verdict.UNMANAGED)
            assert not is_pinned or f"but the configuration pins '{own}'" in finding.reason
        assert many.written == []


def test_k13_pods_of_runs_that_this_server_does_not_know(world: KubernetesWorld, many: Passes) -> None:
    for code in (0, 137):
        job = world.cluster.job(uuid4())
        world.cluster.pod_terminated(world.cluster.pod(job), code)
        world.cluster.job_failed(job)
    world.cluster.pod(world.cluster.job(uuid4()))
    world.cluster.pod(world.cluster.job("no-uuid"))
    _, run = sighted(world, many)
    assert [(finding.run.id, finding.verdict) for finding in many.look()] == [(run.id, Verdict.HEALTHY)]
    assert many.written == []


def test_k13_a_label_selector_narrows_the_lists_and_not_the_look_ups(world: KubernetesWorld) -> None:
    scope = world.bind(label_selector="team=a")
    with passes(world, scope=scope) as many:
        runs = []
        for team in ("a", "b"):
            job = world.cluster.job(run_id := uuid4(), labels={"team": team})
            world.cluster.pod(job)
            runs.append(many.run(job, run_id=run_id))
            world.cluster.pod(world.cluster.job(uuid4(), labels={"team": team}, name=f"strange-{team}"))
        assert {finding.verdict for finding in many.look()} == {Verdict.HEALTHY}
        (stranger,) = scope.observe(runs, time.monotonic() + 20).strangers
        assert "strange-a" in stranger.title
        assert many.written == []
    scope.close()


@pytest.mark.parametrize("has_pid", [True, False])
def test_a_label_taken_off_a_job_between_two_tries_ends_nothing(
    world: KubernetesWorld, many: Passes, has_pid: bool
) -> None:
    """The failed pod still carries it, and the Job is there, about to make the next."""
    job = world.cluster.job(run_id := uuid4(), backoff_limit=3)
    pod = world.cluster.pod(job)
    run = many.run(job if has_pid else None, run_id=run_id)
    assert many.judged(run).verdict is Verdict.HEALTHY
    world.cluster.pod_terminated(pod, 1)
    world.cluster.set_job(job, failed=1, active=None)
    world.cluster.label(job, **{"prefect.io/flow-run-id": None})
    many.later(60)
    assert many.judged(run).verdict in {Verdict.UNKNOWN, Verdict.HEALTHY}
    assert many.written == []
