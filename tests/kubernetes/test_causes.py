"""Why a pod and its Job ended, in one word, as a table: JSON as the API server sends it, in; the cause, out."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.model import Cause
from reconciler_adapters.kubernetes.meaning import judge, observe
from reconciler_adapters.kubernetes.nodes import LastNode, NodeState
from reconciler_adapters.kubernetes.pods import PodSight
from reconciler_adapters.kubernetes.resources import Wording
from tests.kubernetes.shapes import (
    EXITED,
    RUN,
    RUNNING,
    STARTS,
    conditions,
    ended,
    job,
    judged,
    over,
    pod,
)

EARLIER, NOON, LATER = "2026-11-22T11:59:59Z", "2026-11-22T12:00:00Z", "2026-11-22T12:00:01Z"
TAINT = "DeletionByTaintManager"


def pushed(reason: str = "EvictionByEvictionAPI", at: str | None = NOON) -> list[dict[str, Any]]:
    return conditions(DisruptionTarget={"status": "True", "reason": reason, "lastTransitionTime": at})


def died(code: int, reason: str = "Error", at: str | None = NOON) -> dict[str, dict[str, Any]]:
    return {"prefect-job": ended(code, reason, finishedAt=at)}


def failed(containers: dict[str, dict[str, Any]] | None = None, **status: Any) -> PodSight:
    return pod("Failed", containers={} if containers is None else containers, **status)


CAUSES: dict[str, tuple[PodSight, Cause | None]] = {
    "evicted by the kubelet": (failed(reason="Evicted", conditions=pushed("TerminationByKubelet")), Cause.EVICTED),
    "evicted, killed": (failed(died(137), reason="Evicted"), Cause.EVICTED),
    "evicted, out of memory": (failed(died(137, "OOMKilled"), reason="Evicted"), Cause.EVICTED),
    "drained": (failed(died(143), conditions=pushed()), Cause.EVICTED),
    "drained, killed, by a clock that is behind": (failed(died(137, at=EARLIER), conditions=pushed()), Cause.EVICTED),
    "drained, with a code of its own": (failed(died(1), conditions=pushed()), Cause.EVICTED),
    "drained, when nobody knows": (failed(died(1, at=None), conditions=pushed()), Cause.EVICTED),
    "drained, since when nobody knows": (failed(died(1, at=EARLIER), conditions=pushed(at=None)), Cause.EVICTED),
    "drained, at a time that is none": (failed(died(1, at="1970-01-01T00:00:00Z"), conditions=pushed()), Cause.EVICTED),
    "drained, and it took it well": (pod("Succeeded", containers=died(0), conditions=pushed()), Cause.EVICTED),
    "ended before the drain": (failed(died(1, at=EARLIER), conditions=pushed()), None),
    "done before the drain": (pod("Succeeded", containers=died(0, at=EARLIER), conditions=pushed()), None),
    "out of memory before the drain": (
        failed(died(137, "OOMKilled", at=EARLIER), conditions=pushed()),
        Cause.OOM_KILLED,
    ),
    "drained while it was prepared": (
        pod(
            "Failed",
            containers={"prefect-job": STARTS},
            init={"git": ended(0, "Completed", finishedAt=EARLIER)},
            conditions=pushed(),
        ),
        Cause.EVICTED,
    ),
    "preempted by the scheduler": (failed(died(137), conditions=pushed("PreemptionByScheduler")), Cause.EVICTED),
    "preempted by the kubelet": (
        failed(died(137), reason="Preempting", conditions=pushed("TerminationByKubelet")),
        Cause.EVICTED,
    ),
    "pushed off by what a later version may say": (failed(died(137), conditions=pushed("NewReason")), Cause.EVICTED),
    "node lost": (failed(reason="NodeLost"), Cause.NODE_LOST),
    "taint manager": (failed({"prefect-job": RUNNING}, conditions=pushed(TAINT)), Cause.NODE_LOST),
    "collected": (failed({"prefect-job": RUNNING}, conditions=pushed("DeletionByPodGC")), Cause.NODE_LOST),
    "its node shut down": (
        failed(died(137), reason="Terminated", conditions=pushed("TerminationByKubelet")),
        Cause.NODE_LOST,
    ),
    "its node shut down, 1.21": (failed(died(137), reason="Shutdown"), Cause.NODE_LOST),
    "its node was shutting down": (failed(reason="NodeShutdown"), Cause.NODE_LOST),
    "its own deadline": (failed(died(143), reason="DeadlineExceeded"), Cause.DEADLINE_EXCEEDED),
    "out of memory": (failed(died(137, "OOMKilled")), Cause.OOM_KILLED),
    "an init container out of memory": (
        pod("Failed", containers={"prefect-job": STARTS}, init={"git": ended(137, "OOMKilled")}),
        Cause.OOM_KILLED,
    ),
    "no such program": (failed(died(128, "StartError")), Cause.FAILED_TO_START),
    "no such image": (
        failed({"prefect-job": {"waiting": {"reason": "ImagePullBackOff"}}}),
        Cause.FAILED_TO_START,
    ),
    "no such secret": (
        failed({"prefect-job": {"waiting": {"reason": "CreateContainerConfigError"}}}),
        Cause.FAILED_TO_START,
    ),
    "no such device": (failed(reason="UnexpectedAdmissionError"), Cause.FAILED_TO_START),
    "waits to be started again": (
        pod(
            "Failed",
            containerStatuses=[
                {
                    "name": "prefect-job",
                    "restartCount": 1,
                    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                    "lastState": ended(1),
                }
            ],
        ),
        None,
    ),
    "a word that nobody knows, of one that ran": (failed(died(1), reason="NewReason"), None),
    "an exception": (failed(died(1)), None),
    "killed by nobody knows whom": (failed(died(137)), None),
    "nothing is told": (failed(), None),
}


@pytest.mark.parametrize("case", CAUSES)
def test_why_a_pod_ended(case: str) -> None:
    seen, cause = CAUSES[case]
    assert (seen.condition, seen.cause) == (EXITED, cause)
    assert judged(job(failed=1, conditions=over("Failed")), seen).cause is cause
    (alone,) = observe([], [seen], RUN, Wording())
    assert alone.cause is cause
    deadline = judged(job(failed=1, conditions=over("Failed", "DeadlineExceeded")), seen)
    assert deadline.cause is Cause.DEADLINE_EXCEEDED, "the Job's own word"


def test_the_word_for_what_no_platform_caused_is_the_exit_code_s() -> None:
    ends = {code: judged(job(failed=1, conditions=over("Failed")), failed(died(code))).why for code in (1, 137)}
    assert ends == {1: Cause.EXITED, 137: Cause.KILLED}
    done = pod("Succeeded", containers=died(0, "Completed"))
    assert judged(job(succeeded=1, conditions=over("Complete")), done).why is Cause.NOT_REPORTED


def test_the_newest_pod_says_it() -> None:
    first = failed(died(137), reason="Evicted", metadata={"uid": "pod-0", "creationTimestamp": EARLIER})
    second = failed(died(1), metadata={"creationTimestamp": NOON})
    assert judged(job(limit=1, failed=2, conditions=over("Failed")), second, first).cause is None


def test_what_has_not_ended_has_no_cause() -> None:
    for one in (pod(metadata={"deletionTimestamp": NOON}, conditions=pushed()), pod(conditions=pushed())):
        assert one.cause is Cause.EVICTED, "it is announced"
        for seen in (
            judged(job(), one),
            judged(job(conditions=over("Failed")), one),
            *observe([], [one], RUN, Wording()),
        ):
            assert seen.condition.is_live
            assert seen.cause is None
    called_off = conditions(DisruptionTarget={"status": "False", "reason": "PreemptionByScheduler"})
    assert pod(conditions=called_off).cause is None


def test_what_was_announced_says_why_a_pod_is_no_more() -> None:
    node = LastNode("node-1", NodeState.WELL, announced=Cause.EVICTED)

    def cause(failures: int, **status: Any) -> Cause | None:
        return judge(job(failed=failures, **status), [], RUN, Wording(), node).cause

    assert cause(1, conditions=over("Failed")) is Cause.EVICTED
    assert cause(1, conditions=over("Failed", "DeadlineExceeded")) is Cause.DEADLINE_EXCEEDED
    assert cause(2, limit=1, conditions=over("Failed")) is None, "another pod came after it"
    assert cause(0, succeeded=1, conditions=over("Complete")) is None
    assert cause(1, deleted=True) is Cause.EVICTED


def test_of_several_pods_none_says_what_the_others_are_about_to_do() -> None:
    evicted, other = LastNode("node-1", announced=Cause.EVICTED), LastNode("node-1")
    assert evicted.or_on(evicted) == evicted
    assert evicted.or_on(other) == other
    assert evicted.or_on(LastNode("node-2", announced=Cause.EVICTED)) == LastNode(None, announced=Cause.EVICTED)
