"""What Jobs mean with their pods, and what pids and labels name, as tables of JSON as the API server sends it."""

from __future__ import annotations

import json

import msgspec
import pytest

from reconciler_adapters.kubernetes import objects as k8s
from reconciler_adapters.kubernetes.meaning import JobName, observe, without_node
from tests.kubernetes.shapes import (
    ALIVE,
    EXITED,
    LOST,
    RUN,
    RUNNING,
    STARTING,
    UNKNOWN,
    ended,
    job,
    judged,
    over,
    pod,
)

JOBS = {
    "just made": (job(), STARTING, "has no live pod"),
    "suspended": (job(spec={"suspend": True}, conditions=over("Suspended")), STARTING, "is suspended"),
    "between two tries": (job(limit=3, failed=1), STARTING, "(1 failed before)"),
    "about to fail": (job(failed=1, conditions=over("FailureTarget")), STARTING, "1 failed before"),
    "about to be done": (job(conditions=over("SuccessCriteriaMet")), STARTING, "has no live pod"),
    "Failed is False": (job(conditions=over("Failed", status="False")), STARTING, "has no live pod"),
    "Complete is Unknown": (job(conditions=over("Complete", status="Unknown")), STARTING, "has no live pod"),
    "managed elsewhere": (job(spec={"managedBy": "kueue.x-k8s.io/multikueue"}), STARTING, "has no live pod"),
    "failed, and no pod left": (
        job(conditions=over("Failed", "DeadlineExceeded", message="Job was active longer than specified deadline")),
        EXITED,
        "failed: DeadlineExceeded - Job was active longer than specified deadline",
    ),
    "complete, and no pod left": (job(conditions=over("Complete", "")), EXITED, "completed"),
    "being deleted": (job(deleted=True), EXITED, "is being deleted, and has no pod left"),
    "being deleted in the foreground": (
        job(deleted=True, finalizers=["foregroundDeletion"], active=1),
        EXITED,
        "is being deleted, and has no pod left",
    ),
}


@pytest.mark.parametrize("case", JOBS)
def test_a_job_without_pods(case: str) -> None:
    one, condition, words = JOBS[case]
    seen = judged(one)
    assert seen.condition is condition
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
    other = pod(metadata={"ownerReferences": [{"kind": "Job", "name": "new", "uid": "job-2"}]})
    seen = list(observe([job(failed=1, conditions=over("Failed"))], [other], RUN, ""))
    assert [one.condition for one in seen] == [EXITED, ALIVE]


def test_a_pod_that_vanished_unseen_is_not_covered_by_one_that_was_seen_to_end() -> None:
    seen = pod("Failed", containers={"prefect-job": ended(1)})
    assert judged(job(limit=1, failed=2, conditions=over("Failed")), seen).unseen_end
    given_up = pod("Failed", reason="NodeLost", metadata={"uid": "pod-0", "creationTimestamp": "2026-11-22T09:00:00Z"})
    assert judged(job(limit=1, failed=2, conditions=over("Failed")), given_up, seen).unseen_end


def test_a_pod_whose_node_is_gone_for_good_ended_out_of_sight() -> None:
    gone = without_node(pod(conditions=LOST))
    assert (gone.condition, gone.unseen_end, gone.ended_at) == (EXITED, True, None)
    assert judged(job(), gone).condition is STARTING  # its Job may make another
    assert judged(job(conditions=over("Failed")), gone).unseen_end


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
