"""The states of a pod that matter to its flow run, as kubelets and controllers write them (statuses seen on 1.33)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tests.kubernetes.apiserver.cluster_objects import Object, conditions, container_status, instant
from tests.kubernetes.apiserver.cluster_rest import Rest


class PodStates(Rest):
    """The part of a Cluster that plays kubelets;"""

    def set_pod(self, pod: Object, **status: Any) -> Object:
        """Merge into the status; lists are replaced, None removes."""
        return self._patch(pod, {"status": status}, "/status")

    def pod_terminated(
        self,
        pod: Object,
        exit_code: int,
        reason: str = "Error",
        container: str = "prefect-job",
        phase: str = "Failed",
        finished_at: datetime | None = None,
    ) -> Object:
        """That container has ended; the others stay as they are."""
        now = instant(finished_at)
        ended = {"exitCode": exit_code, "reason": reason, "startedAt": _started(pod), "finishedAt": now}
        statuses = _changed(pod, container, {"terminated": ended})
        found = conditions(now, scheduled=True, ready=False)
        return self.set_pod(pod, phase=phase, containerStatuses=statuses, conditions=found)

    def pod_waiting(self, pod: Object, reason: str, message: str, container: str = "prefect-job") -> Object:
        """Pending: ImagePullBackOff, ErrImagePull, ContainerCreating, CreateContainerConfigError ..."""
        statuses = _changed(pod, container, {"waiting": {"reason": reason, "message": message}})
        found = conditions(instant(), scheduled=True, ready=False)
        return self.set_pod(pod, phase="Pending", containerStatuses=statuses, conditions=found)

    def pod_restarting(self, pod: Object, exit_code: int, restarts: int, reason: str = "Error") -> Object:
        """restartPolicy OnFailure, between two tries in place: CrashLoopBackOff, with the last end in lastState."""
        now = instant()
        last = {"exitCode": exit_code, "reason": reason, "startedAt": now, "finishedAt": now}
        waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s restarting failed container"}}
        more = {"restartCount": restarts, "lastState": {"terminated": last}}
        statuses = _changed(pod, "prefect-job", waiting, **more)
        found = conditions(now, scheduled=True, ready=False)
        return self.set_pod(pod, phase="Running", containerStatuses=statuses, conditions=found)

    def pod_unschedulable(self, pod: Object, message: str = "0/3 nodes are available: 3 Insufficient cpu.") -> Object:
        """Pending without a node (make it with `node=None`)."""
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        condition |= {"lastProbeTime": None, "lastTransitionTime": instant()}
        return self.set_pod(pod, phase="Pending", containerStatuses=None, conditions=[condition])

    def pod_node_lost(self, pod: Object) -> Object:
        """All that the node lifecycle controller does: the condition Ready goes; the containers stay as last told."""
        now = instant()
        found = [
            condition | ({"status": "False", "lastTransitionTime": now} if condition["type"] == "Ready" else {})
            for condition in pod["status"].get("conditions", [])
        ]
        return self.set_pod(pod, conditions=found)

    def pod_evicted(self, pod: Object, message: str = "The node was low on resource: memory. ") -> Object:
        """By the kubelet, for pressure on its node: Failed, and its containers are told of no more."""
        target = {"reason": "TerminationByKubelet", "message": message}
        found = conditions(instant(), scheduled=True, ready=False, DisruptionTarget=target)
        status = {"reason": "Evicted", "message": message, "conditions": found}
        return self.set_pod(pod, phase="Failed", containerStatuses=None, podIP=None, podIPs=None, **status)


def _started(pod: Object) -> str:
    return str(pod["status"].get("startTime") or instant())


def _changed(pod: Object, container: str, state: Object, **more: Any) -> list[Object]:
    present = {status["name"]: status for status in pod["status"].get("containerStatuses") or []}
    present[container] = container_status(pod, container, state, **more)
    return list(present.values())
