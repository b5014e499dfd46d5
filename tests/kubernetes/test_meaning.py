"""What Jobs mean with their pods, and what pids and labels name, as tables of JSON as the API server sends it."""

from __future__ import annotations

import json

import msgspec
import pytest

from reconciler.model import Cause
from reconciler_adapters.kubernetes import objects as k8s
from reconciler_adapters.kubernetes.meaning import JobName, judge, observe, without_node
from reconciler_adapters.kubernetes.nodes import LastNode, NodeState
from reconciler_adapters.kubernetes.pods import PodSight
from reconciler_adapters.kubernetes.resources import Wording
from tests.kubernetes.shapes import (
    ALIVE,
    EXITED,
    LOST,
    RUN,
    RUNNING,
    STARTING,
    STOPPING,
    UNKNOWN,
    ended,
    job,
    judged,
    over,
    pod,
)

DEAD = pod("Failed", containers={"prefect-job": ended(1)}, metadata={"uid": "pod-0"})
MULTIKUEUE = "kueue.x-k8s.io/multikueue"
JOBS = {
    "just made": (job(), STARTING, "has no live pod", None),
    "suspended": (job(spec={"suspend": True}, conditions=over("Suspended")), STARTING, "is suspended", None),
    "between two tries": (job(limit=3, failed=1), STARTING, "(1 failed before)", None),
    "about to fail": (job(failed=1, conditions=over("FailureTarget")), STARTING, "1 failed before", None),
    "about to be done": (job(conditions=over("SuccessCriteriaMet")), STARTING, "has no live pod", None),
    "Failed is False": (job(conditions=over("Failed", status="False")), STARTING, "has no live pod", None),
    "Complete is Unknown": (job(conditions=over("Complete", status="Unknown")), STARTING, "has no live pod", None),
    "managed elsewhere": (
        job(spec={"managedBy": MULTIKUEUE}),
        ALIVE,
        "is managed by kueue.x-k8s.io/multikueue, so its",
        None,
    ),
    "managed elsewhere, suspended": (
        job(spec={"managedBy": MULTIKUEUE, "suspend": True}),
        ALIVE,
        "is managed by kueue",
        None,
    ),
    "managed elsewhere, being deleted": (
        job(deleted=True, finalizers=["kueue.x-k8s.io/hold"], spec={"managedBy": MULTIKUEUE}),
        STOPPING,
        "is managed by kueue.x-k8s.io/multikueue, so its pods may be in another cluster",
        None,
    ),
    "managed elsewhere, failed": (
        job(spec={"managedBy": MULTIKUEUE}, conditions=over("Failed")),
        EXITED,
        "failed: BackoffLimitExceeded",
        None,
    ),
    "managed elsewhere, being deleted after its end": (
        job(deleted=True, spec={"managedBy": MULTIKUEUE}, conditions=over("Failed")),
        EXITED,
        "failed: BackoffLimitExceeded",
        None,
    ),
    "managed by the one that it says": (
        job(spec={"managedBy": "kubernetes.io/job-controller"}),
        STARTING,
        "has no live pod",
        None,
    ),
    "with a pod of no label": (job(active=1), ALIVE, "still counts 1 active pod, of which none is seen alive", None),
    "with pods of no label": (
        job(active=2, failed=1),
        ALIVE,
        "still counts 2 active pods, of which none is seen alive",
        None,
    ),
    "with a pod of no label, and over": (
        job(active=1, failed=1, conditions=over("Failed", "DeadlineExceeded")),
        STOPPING,
        "still counts 1 active pod, of which none is seen alive",
        None,
    ),
    "failed, and no pod left": (
        job(conditions=over("Failed", "DeadlineExceeded", message="Job was active longer than specified deadline")),
        EXITED,
        "failed: DeadlineExceeded - Job was active longer than specified deadline",
        Cause.DEADLINE_EXCEEDED,
    ),
    "complete, and no pod left": (job(conditions=over("Complete", "")), EXITED, "completed", None),
    "being deleted": (job(deleted=True), EXITED, "is being deleted, and has no pod left", Cause.REMOVED),
    "being deleted in the foreground": (
        job(deleted=True, finalizers=["foregroundDeletion"], active=1),
        STOPPING,
        "still counts 1 active pod, of which none is seen alive",
        None,
    ),
    "being deleted in the foreground, its pod having ended": (
        job(deleted=True, finalizers=["foregroundDeletion"], active=0, failed=1),
        EXITED,
        "is being deleted, and has no pod left",
        Cause.REMOVED,
    ),
}


@pytest.mark.parametrize("case", JOBS)
def test_a_job_without_pods(case: str) -> None:
    one, condition, words, cause = JOBS[case]
    seen = judged(one)
    assert (seen.condition, seen.cause) == (condition, cause)
    assert words in seen.reason
    assert seen.unseen_end is (condition is EXITED and seen.exit_code != 0)


def test_a_job_that_says_no_time() -> None:
    assert judged(job(conditions=over("Failed", lastTransitionTime=None))).ended_at is None


def test_one_live_pod_of_several_is_enough() -> None:
    dead = pod("Failed", containers={"prefect-job": ended(1)}, metadata={"uid": "pod-0"})
    late = pod("Failed", containers={"prefect-job": ended(1)}, metadata={"creationTimestamp": "2026-11-22T11:00:00Z"})
    lingers = pod(containers={"prefect-job": ended(1), "istio-proxy": RUNNING}, metadata={"uid": "pod-9"})
    for dying in (dead, late, lingers):
        assert judged(job(), dying, pod(metadata={"uid": "pod-5"})).condition is ALIVE
        assert judged(job(), dying, pod(conditions=LOST, metadata={"uid": "pod-5"})).condition is UNKNOWN


def test_any_live_job_of_several_is_shown() -> None:
    other = pod(metadata={"ownerReferences": [{"kind": "Job", "name": "new", "uid": "job-2", "controller": True}]})
    seen = list(observe([job(failed=1, conditions=over("Failed"))], [other], RUN, Wording()))
    assert [one.condition for one in seen] == [EXITED, ALIVE]


def test_a_pod_that_vanished_unseen_is_not_covered_by_one_that_was_seen_to_end() -> None:
    seen = pod("Failed", containers={"prefect-job": ended(1)})
    assert judged(job(limit=1, failed=2, conditions=over("Failed")), seen).unseen_end
    given_up = pod("Failed", reason="NodeLost", metadata={"uid": "pod-0", "creationTimestamp": "2026-11-22T09:00:00Z"})
    assert judged(job(limit=1, failed=2, conditions=over("Failed")), given_up, seen).unseen_end


FAILED = over("Failed")
VANISHED = {
    "the only one": (job(failed=1, conditions=FAILED), [], True),
    "the only one, by a deadline": (job(failed=None, conditions=over("Failed", "DeadlineExceeded")), [], True),
    "two": (job(failed=2, limit=1, conditions=FAILED), [], False),  # one node is known, which need not be both's
    "one of two": (job(failed=2, limit=1, conditions=FAILED), [DEAD], False),
    "none": (job(failed=1, conditions=FAILED), [DEAD], None),
    "none, and one was not counted": (job(failed=0, conditions=FAILED), [DEAD], None),
    "the only one, the Job being deleted": (job(deleted=True, failed=1), [], True),
    "one of two, the Job being deleted": (job(deleted=True, failed=2), [DEAD], False),
}


@pytest.mark.parametrize("case", VANISHED)
def test_who_vouches_for_a_pod_that_vanished(case: str) -> None:
    """None: nothing to vouch for; else whether the node can on which the run was last seen."""
    one, pods, node_can = VANISHED[case]
    assert judged(one, *pods).unseen_end is (node_can is not None)
    for state in NodeState:
        seen = judge(one, pods, RUN, Wording(), LastNode("node-1", state))
        assert seen.condition is EXITED
        vouched = node_can is None or (node_can and state is NodeState.WELL)
        assert seen.unseen_end is not vouched
        is_lost = node_can and state in {NodeState.GONE, NodeState.LOST} and "DeadlineExceeded" not in seen.reason
        assert (seen.cause is Cause.NODE_LOST) is bool(is_lost)


def test_nobody_need_vouch_for_success() -> None:
    assert not judged(job(failed=1, succeeded=1, conditions=over("Complete"))).unseen_end


def test_a_flow_that_ended_beside_a_sidecar_with_tries_left() -> None:
    """The Job makes its next pod only once the present one has ended as a whole."""
    lingers = pod(containers={"prefect-job": ended(137, "OOMKilled"), "istio-proxy": RUNNING})
    died = "pod otter-x on node node-1 ended: container prefect-job was OOMKilled (exit code 137)"
    for one in (
        job(limit=1, active=1),
        job(limit=None, active=1),
        job(limit=0, spec={"podFailurePolicy": {}}, active=1),
    ):
        seen = judged(one, lingers)
        assert seen.condition is STARTING
        assert seen.reason == f"goes on only when the other containers have ended: {died}"
    without = judged(job(limit=1, failed=1, active=1), lingers)
    assert (without.condition, without.reason) == (EXITED, f"will not run again: {died}")
    assert without.cause is Cause.OOM_KILLED
    between = judged(job(limit=1), DEAD)
    assert between.reason.startswith("has not made its next pod yet: pod otter-x")


def test_a_lingering_pod_is_the_active_one() -> None:
    lingers = pod(containers={"prefect-job": ended(0, "Completed"), "istio-proxy": RUNNING})
    assert judged(job(active=1), lingers).condition is EXITED
    assert judged(job(active=2), lingers).reason == "still counts 1 active pod, of which none is seen alive"
    assert judged(job(active=1), DEAD).condition is ALIVE


@pytest.mark.parametrize("state", [pod(), DEAD, pod("Pending", containers={})], ids=["runs", "ended", "starts"])
def test_pods_of_a_job_that_is_managed_elsewhere_are_its_pods(state: PodSight) -> None:
    mine = judged(job(), state)
    assert judged(job(spec={"managedBy": MULTIKUEUE}), state) == mine


@pytest.mark.parametrize("controller", [False, None])
def test_only_a_controller_is_a_pod_s_job(controller: bool | None) -> None:
    """What a flow makes may name its Job as an owner, to be swept with it."""
    owner = {"kind": "Job", "name": "otter", "uid": "job-1"} | (
        {} if controller is None else {"controller": controller}
    )
    child = pod("Succeeded", containers={"dask": ended(0, "Completed")}, metadata={"ownerReferences": [owner]})
    assert (child.job_uid, child.job_name) == (None, None)
    failed = job(failed=1, conditions=FAILED)
    main = pod("Failed", containers={"prefect-job": ended(137)}, metadata={"creationTimestamp": "2026-11-22T09:00:00Z"})
    seen, _ = observe([failed], [main, child], RUN, Wording())
    assert seen.exit_code == 137
    both = [owner | {"uid": "job-0"}, {"kind": "Job", "name": "real", "uid": "job-1", "controller": True}]
    assert pod(metadata={"ownerReferences": both}).job_uid == "job-1"
    other = [{"kind": "ReplicaSet", "name": "web", "uid": "set-1", "controller": True}]
    assert pod(metadata={"ownerReferences": other}).job_uid is None


def test_a_pod_whose_node_is_gone_for_good_ended_out_of_sight() -> None:
    gone = without_node(pod(conditions=LOST))
    assert (gone.condition, gone.unseen_end, gone.ended_at) == (EXITED, True, None)
    assert judged(job(), gone).condition is STARTING  # its Job may make another
    failed = judged(job(conditions=over("Failed")), gone)
    assert (failed.unseen_end, failed.cause) == (True, Cause.NODE_LOST)


PIDS: dict[str | None, JobName | None] = {
    "prefect:wise-otter-1": JobName("prefect", "wise-otter-1"),
    f"{RUN}:prefect:wise-otter-1": JobName("prefect", "wise-otter-1", str(RUN)),
    "team-1:dotted.name": JobName("team-1", "dotted.name"),
    **dict.fromkeys(
        [
            *(
                "",
                ":",
                "::",
                ":::",
                ":ns:job",
                "ns:",
                ":job",
                "job",
                "a:b:c:d",
                "ns:Job",
                "NS:job",
                "-ns:job",
                "ns:-job",
            ),
            *("ns:job\n", "ns:jo b", "ns:job/../x", "ns/x:job", "http://host:1", "é:job", f"{'n' * 64}:job", "12345"),
        ]
    ),
    None: None,
}


@pytest.mark.parametrize("pid", PIDS)
def test_what_a_pid_names(pid: str | None) -> None:
    assert JobName.parse(pid) == PIDS[pid]


@pytest.mark.parametrize("label", ["", "no-uuid", "7a6b8e0e", "7a6b8e0e-5a54-4e0c-9a0e-0c3f6f0a1b2c-x", "None", "é"])
def test_a_label_that_is_no_uuid_is_no_run(label: str) -> None:
    text = json.dumps({"name": "x", "uid": "1", "labels": {"prefect.io/flow-run-id": label}})
    assert msgspec.json.decode(text, type=k8s.Metadata).run_id is None
