"""Scenario K07: a failure of the API is not absence, in whole passes over a Job that is gone for good."""

from __future__ import annotations

from uuid import uuid4

import pytest

from reconciler.model import Verdict
from reconciler.testing import Fault
from reconciler_adapters.kubernetes import calls as kubernetes_calls
from tests.kubernetes.apiserver.faults import Answer, Call, Forward
from tests.kubernetes.passes import Passes, passes
from tests.kubernetes.world import KubernetesWorld


def vanished(world: KubernetesWorld, many: Passes) -> None:
    """Five runs are seen alive; then the Job and the pod of one are gone for good."""
    run_ids = [uuid4() for _ in range(5)]
    jobs = [world.cluster.job(run_id) for run_id in run_ids]
    for job, run_id in zip(jobs, run_ids, strict=True):
        many.run(job, run_id=run_id)
    pod = world.cluster.pod(jobs[0])
    assert {finding.verdict for finding in many.look()} == {Verdict.HEALTHY}
    world.cluster.delete(pod, grace=0)
    world.cluster.delete(jobs[0])


def nobody_knows(many: Passes, *words: str) -> None:
    """In pass after pass; and it was for nothing but that."""
    for _ in range(2):
        many.later(600)
        for finding in many.look():
            assert finding.verdict is Verdict.UNKNOWN
            for word in words:
                assert word in finding.reason
    assert many.written == []


WORDS = {
    Fault.TIMEOUT: "did not answer within",
    Fault.RESET: "the connection broke off",
    Fault.UNAUTHORIZED: "it answered 401",
    Fault.FORBIDDEN: "it answered 403",
    Fault.PARENT_NOT_FOUND: "it answered 404",
    Fault.EXPIRED: "it answered 410",
    Fault.THROTTLED: "it answered 429",
    Fault.SERVER_ERROR: "it answered 500",
    Fault.UNAVAILABLE: "it answered 503",
    Fault.TRUNCATED: "the connection broke off",
    Fault.EMPTY: "its answer cannot be read",
    Fault.MALFORMED: "its answer cannot be read",
}


@pytest.mark.parametrize("path", [".*", ".*/(jobs|pods)"], ids=["every call", "the lists"])
@pytest.mark.parametrize("fault", Fault)
def test_k07_no_failure_is_absence(world: KubernetesWorld, fault: Fault, path: str) -> None:
    with passes(world, deadline=1.0 if fault is Fault.TIMEOUT else 20.0) as many:
        vanished(world, many)
        world.front.inject(fault, path)
        for _ in range(2):
            many.later(600)
            found = many.look()
            assert {finding.verdict for finding in found} == {Verdict.UNKNOWN}
            assert fault is Fault.TIMEOUT or all(WORDS[fault] in finding.reason for finding in found)
        assert many.written == []
        world.front.heal()


def test_k07_once_it_answers_the_zombie_is_seen(world: KubernetesWorld, many: Passes) -> None:
    """So it was for nothing but the failure."""
    vanished(world, many)
    world.front.inject(Fault.SERVER_ERROR)
    nobody_knows(many, "it answered 500")
    world.front.heal()
    many.look(dry=True)
    many.later(90)  # longer than the amnesty of a scope that answers again
    verdicts = sorted(finding.verdict for finding in many.look(dry=True))
    assert verdicts == [*[Verdict.HEALTHY] * 4, Verdict.ZOMBIE]


def test_k07_an_answer_that_comes_too_late(world: KubernetesWorld) -> None:
    with passes(world, deadline=1.0) as many:
        vanished(world, many)
        world.front.slow(3.0)
        nobody_knows(many)
        world.front.heal()


def test_k07_pods_may_not_be_listed_and_jobs_may(world: KubernetesWorld) -> None:
    reading = ["get", "list"]
    world.cluster.grant("reader", [{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": reading}])
    world.cluster.grant("reader", [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]}])
    scope = world.bind("reader")
    with passes(world, scope=scope) as many:
        run = many.run(world.cluster.job(run_id := uuid4()), run_id=run_id)
        for _ in range(2):
            many.later(600)
            unknown = many.judged(run)
            assert unknown.verdict is Verdict.UNKNOWN
            assert "it answered 403" in unknown.reason
            assert "pods" in unknown.reason
        assert many.written == []
    scope.close()


def test_k07_a_right_that_is_taken_away(world: KubernetesWorld, many: Passes) -> None:
    vanished(world, many)
    world.front.inject(Fault.FORBIDDEN, path="/api/v1/pods")
    nobody_knows(many, "it answered 403", "/api/v1/pods", "grant it")


def test_k07_a_list_that_expires_once_is_begun_anew(
    world: KubernetesWorld, many: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes_calls, "_PAGE", 2)
    for _ in range(4):
        world.cluster.job(uuid4())
    run = many.run(world.cluster.job(run_id := uuid4()), run_id=run_id)

    def compacted(_call: Call, forward: Forward) -> Answer:
        world.front.compact()
        return forward()

    world.front.calls.clear()
    world.front.inject(compacted, path="/apis/batch/v1/jobs", having="continue", times=1)
    assert many.judged(run).verdict is Verdict.HEALTHY
    asked = ["continue" in call.query for call in world.front.calls if call.path == "/apis/batch/v1/jobs"]
    assert asked == [False, True, False, True, True]
    assert many.written == []


def test_k07_a_list_that_expires_for_ever(
    world: KubernetesWorld, many: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes_calls, "_PAGE", 2)
    vanished(world, many)
    world.front.inject(Fault.EXPIRED, having="continue")
    nobody_knows(many, "it answered 410")


@pytest.mark.parametrize("path", [".*/jobs", ".*/pods"])
@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.TIMEOUT])
def test_k07_a_failed_job_whose_replacement_cannot_be_listed(
    world: KubernetesWorld, many: Passes, fault: Fault, path: str
) -> None:
    """An end that is seen is none as long as what may have taken its place cannot be."""
    first = world.cluster.job(run_id := uuid4())
    pod = world.cluster.pod(first)
    run = many.run(first, run_id=run_id)
    assert many.judged(run).verdict is Verdict.HEALTHY
    world.cluster.pod_terminated(pod, 1)
    world.cluster.job_failed(first)
    second = world.cluster.job(run_id)
    pod = world.cluster.pod(second)
    world.front.inject(fault, path)
    for _ in range(2):
        many.later(120)
        assert many.judged(run).verdict is Verdict.UNKNOWN
    world.front.heal()
    world.front.rewrite(many._edit)  # healing stopped that, too: its times are to move along again
    many.later(60)
    assert many.judged(run).verdict is Verdict.HEALTHY
    assert many.written == []
    world.cluster.pod_terminated(pod, 137)
    world.cluster.job_failed(second)
    for _ in range(2):
        many.later(120)
        many.look()
    assert len(many.written) == 1
