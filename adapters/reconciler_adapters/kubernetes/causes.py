"""Why a pod ended, in one word: the platform's reason first, then the container's. Pure.

The words are those of the kubelet (1.20 to 1.36) and of the condition DisruptionTarget (1.25 and later).
"""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.model import Cause
from reconciler_adapters.kubernetes import objects as k8s

NODE_LOST = "NodeLost"  # set when the kubelet is not heard of
GIVEN_UP = {"DeletionByPodGC", "DeletionByTaintManager"}  # likewise, in the condition DisruptionTarget
OUT_OF_MEMORY = "OOMKilled"
DEADLINE = "DeadlineExceeded"  # the same word for a pod's and for a Job's
_BY_REASON = {
    "Evicted": Cause.EVICTED,
    "Preempting": Cause.EVICTED,  # by the kubelet, for a critical pod
    NODE_LOST: Cause.NODE_LOST,
    "Terminated": Cause.NODE_LOST,  # the node shut down; before 1.22 "Shutdown"
    "Shutdown": Cause.NODE_LOST,
    "NodeShutdown": Cause.NODE_LOST,  # it came when the node was shutting down already, and was refused
    DEADLINE: Cause.DEADLINE_EXCEEDED,
}
_NOT_RUNNABLE = {"StartError", "ContainerCannotRun"}
_STOPPED_FROM_OUTSIDE = {137, 143}  # SIGKILL, SIGTERM


def announced(pod: k8s.Pod) -> Cause | None:
    """What the platform says of an end that is to come, or has."""
    told = _BY_REASON.get(pod.status.reason or "")
    if told is not None or not pod.status.disruptions:
        return told
    given_up = any(one.reason in GIVEN_UP for one in pod.status.disruptions)
    return Cause.NODE_LOST if given_up else Cause.EVICTED


def of_end(pod: k8s.Pod, flow: k8s.ContainerStatus | None, end: k8s.Terminated | None) -> Cause | None:
    """Say why a pod ended. `flow` is the flow's container, if known; `end` the end that is told of the pod."""
    own = flow.state.terminated if flow else None
    told = announced(pod)
    if told is not None and not (own and _ended_by_itself(own, pod.status.disruptions)):
        return told
    if end is not None and end.reason == OUT_OF_MEMORY:
        return Cause.OOM_KILLED
    return Cause.FAILED_TO_START if _never_started(pod, flow, end) else None


def _ended_by_itself(end: k8s.Terminated, disruptions: Sequence[k8s.Condition]) -> bool:
    """Whether it had ended before: a sidecar keeps a pod that is then evicted with a flow that ended long ago.

    The times are of two clocks, so an end that an eviction would make as well is taken for the eviction's.
    """
    ended = k8s.at_the_latest(end.finished_at)
    if ended is None or (end.exit_code in _STOPPED_FROM_OUTSIDE and end.reason != OUT_OF_MEMORY):
        return False
    since = [one.last_transition_time for one in disruptions if one.last_transition_time]
    return bool(since) and ended <= min(since)


def _never_started(pod: k8s.Pod, flow: k8s.ContainerStatus | None, end: k8s.Terminated | None) -> bool:
    """Whether the flow's container never ran: what was to come before it failed, or the kubelet refused the pod."""
    if end is not None and end.reason in _NOT_RUNNABLE:
        return True
    if flow is not None:
        return flow.state.waiting is not None and not (flow.restart_count or flow.last_state.terminated)
    return bool(pod.status.reason) and not pod.status.container_statuses
