"""What one pod tells by itself. Pure. Whether its end is the end of the run is for its Job to say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from reconciler.model import Cause, Condition, RunId
from reconciler.words import one_line, signal_name
from reconciler_adapters.kubernetes import causes
from reconciler_adapters.kubernetes import objects as k8s


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSight:
    """One pod of one run, reduced to what is judged. Times are the cluster's."""

    run_id: RunId
    uid: str
    name: str
    namespace: str
    job_uid: str | None
    job_name: str | None
    node: str | None
    created_at: datetime | None
    condition: Condition  # UNKNOWN: its node is lost, so it may run or not
    reason: str  # continues "pod NAME": "is running", "is not scheduled: 0/3 nodes are available"
    exit_code: int | None = None
    ended_at: datetime | None = None
    unseen_end: bool = False
    lingers: bool = False  # the flow's container has ended, and a sidecar keeps the pod Running
    cause: Cause | None = None  # why it ended; of one that has not, why it is about to


def sight(pod: k8s.Pod, run_id: RunId) -> PodSight:
    """Reduce a pod. Phases and conditions as seen on Kubernetes 1.33."""
    meta, found = pod.metadata, _found(pod)
    # Whatever a flow makes may name its Job as an owner, to be swept with it: the controller is but one.
    job = next((one for one in meta.owner_references or () if one.kind == "Job" and one.controller), None)
    label = meta.labels.job if meta.labels else None
    return PodSight(
        run_id=run_id,
        uid=meta.uid,
        name=meta.name,
        namespace=meta.namespace,
        job_uid=job.uid if job else None,
        job_name=job.name if job else label,  # the label outlives the Job, the reference does not
        node=pod.spec.node_name,
        created_at=meta.creation_timestamp,
        condition=found.condition,
        reason=found.reason,
        exit_code=found.exit_code,
        ended_at=found.ended_at,
        unseen_end=found.unseen_end,
        lingers=found.condition is Condition.EXITED and pod.status.phase == "Running" and not meta.deletion_timestamp,
        cause=found.cause if found.condition is Condition.EXITED else causes.announced(pod),
    )


@dataclass(frozen=True, slots=True)
class _Found:
    condition: Condition
    reason: str
    exit_code: int | None = None
    ended_at: datetime | None = None
    unseen_end: bool = False
    cause: Cause | None = None


_RUNS = _Found(Condition.ALIVE, "is running")  # one for all: most pods are like that


def _found(pod: k8s.Pod) -> _Found:
    phase = pod.status.phase
    if phase in {"Succeeded", "Failed"}:
        return _ended(pod)
    flow = _flow_status(pod)
    if phase == "Running" and flow and flow.state.terminated and not _restarts(pod, flow.state.terminated):
        return _ended(pod)
    if lost := _lost(pod):
        return _Found(Condition.UNKNOWN, lost)
    if pod.metadata.deletion_timestamp:
        return _Found(Condition.STOPPING, f"is being stopped{_because(pod)}")
    if phase == "Pending":
        return _Found(Condition.STARTING, _not_yet(pod))
    if phase == "Running":
        return _running(pod)
    return _Found(Condition.UNKNOWN, f"is in the phase '{one_line(phase)}', which this version does not know")


def _flow_name(pod: k8s.Pod) -> str | None:
    """The container that runs the flow. None if it cannot be told: an injected sidecar may stand first."""
    names = [container.name for container in pod.spec.containers]
    if k8s.FLOW_CONTAINER in names:
        return k8s.FLOW_CONTAINER
    return names[0] if len(names) == 1 else None


def _flow_status(pod: k8s.Pod) -> k8s.ContainerStatus | None:
    name = _flow_name(pod)
    return next((status for status in pod.status.container_statuses or () if status.name == name), None)


def _restarts(pod: k8s.Pod, end: k8s.Terminated) -> bool:
    """Whether the kubelet will start the flow's container again, in the same pod."""
    everyone = (*pod.spec.containers, *(pod.spec.init_containers or ()))
    if pod.spec.restart_policy == "Always" or any(one.restart_policy_rules for one in everyone):
        return True  # a rule of any container may restart all of them
    if any(one.restart_policy for one in pod.spec.containers if one.name == _flow_name(pod)):
        return True
    return pod.spec.restart_policy == "OnFailure" and end.exit_code != 0


def _lost(pod: k8s.Pod) -> str:
    """Say that the pod's node is not heard of, or nothing.

    The node controller then only sets the pod's Ready to False (seen on 1.33) and leaves all else as the kubelet last
    reported it: a container that fails its probe makes ContainersReady False as well.
    """
    conditions = {condition.type: condition for condition in pod.status.conditions or ()}
    ready, containers = conditions.get("Ready"), conditions.get("ContainersReady")
    marked = (
        ready is not None
        and containers is not None
        and ready.status == "False"
        and containers.status == "True"
        and ready.reason != "ReadinessGatesNotReady"
    )
    if marked or pod.status.phase == "Unknown" or pod.status.reason == causes.NODE_LOST:
        return "cannot be seen, because that node is not heard of; it may still run"
    return ""


def _running(pod: k8s.Pod) -> _Found:
    flow = _flow_status(pod)
    if flow is None:
        return _RUNS
    state, last = flow.state, flow.state.terminated or flow.last_state.terminated
    if not (flow.restart_count or state.waiting or state.terminated):
        return _RUNS
    words = [f"restarted {flow.restart_count} time{'s' * (flow.restart_count != 1)}"]
    words += [one_line(state.waiting.reason)] if state.waiting and state.waiting.reason else []
    words += [f"last: {_death(pod, flow.name, last)}"] if last else []
    told = "waits to be restarted" if state.waiting or state.terminated else "is running"
    return _Found(Condition.ALIVE, f"{told} ({'; '.join(words)})")


def _not_yet(pod: k8s.Pod) -> str:
    """Why a pod has not started: the scheduler's word, or the first container's that waits for something."""
    for condition in pod.status.conditions or ():
        if condition.type == "PodScheduled" and condition.status == "False":
            return f"is not scheduled{_told(condition.reason, condition.message)}"
    for status in (*(pod.status.init_container_statuses or ()), *(pod.status.container_statuses or ())):
        waiting, ended = status.state.waiting, status.state.terminated
        if ended and ended.exit_code:
            return f"has not started: {_death(pod, status.name, ended)}"
        if waiting and waiting.reason not in {None, "PodInitializing", "ContainerCreating"}:
            return f"has not started: container {status.name}{_told(waiting.reason, waiting.message)}"
    return "is starting"


def _ended(pod: k8s.Pod) -> _Found:
    status = pod.status
    deaths = list(_deaths(pod))
    name, end = deaths[0] if deaths else ("", None)
    how = _gone_how(pod)
    if end:
        how = f"{how}; {_death(pod, name, end)}" if how else f"ended: {_death(pod, name, end)}"
    return _Found(
        Condition.EXITED,
        how or ("succeeded" if status.phase == "Succeeded" else f"failed{_told(status.reason, status.message)}"),
        exit_code=end.exit_code if end else 0 if status.phase == "Succeeded" else None,
        ended_at=k8s.at_the_latest(end.finished_at) if end else None,
        unseen_end=_is_unseen(pod),
        cause=causes.of_end(pod, _flow_status(pod), end),
    )


def _deaths(pod: k8s.Pod) -> Iterator[tuple[str, k8s.Terminated]]:
    """What ended in the pod, the flow's container first, then what failed."""
    flow = _flow_status(pod)
    if flow is not None and flow.state.terminated:
        yield flow.name, flow.state.terminated
        return
    if flow is not None and not flow.state.waiting:
        return  # it ran when last heard of: the end of another container is not its end
    statuses = (*(pod.status.init_container_statuses or ()), *(pod.status.container_statuses or ()))
    ends = [(status.name, status.state.terminated) for status in statuses if status.state.terminated]
    yield from sorted(ends, key=lambda one: one[1].exit_code == 0)


def _is_unseen(pod: k8s.Pod) -> bool:
    """Whether the pod was given up without the kubelet having seen the flow's container end."""
    status, name = pod.status, _flow_name(pod)
    if status.phase == "Succeeded" or (status.reason and status.reason != causes.NODE_LOST):
        return False  # the kubelet's word, so that it saw the end: Evicted, NodeShutdown, OutOfcpu
    mine = [one for one in status.container_statuses or () if name in {None, one.name}]
    given_up = status.reason == causes.NODE_LOST or any(one.reason in causes.GIVEN_UP for one in status.disruptions)
    # one that waited to start will not, unless nobody has told since
    return not mine or any(not one.state.terminated and (given_up or not one.state.waiting) for one in mine)


def _gone_how(pod: k8s.Pod) -> str:
    """Eviction, preemption, a lost node: what came over the pod from outside."""
    if pod.status.reason == "Evicted":
        return f"was evicted{_told(None, pod.status.message)}"
    if pod.status.reason == causes.NODE_LOST:
        return f"was given up, because its node {pod.spec.node_name} was lost"
    because = _because(pod)
    return f"was ended{because}" if because else ""


def _because(pod: k8s.Pod) -> str:
    return next((_told(one.reason, one.message) for one in pod.status.disruptions), "")


def _death(pod: k8s.Pod, name: str, end: k8s.Terminated) -> str:
    """How a container ended: "container prefect-job was OOMKilled over its limit of 512Mi (exit code 137)"."""
    title, code = f"container {name}", end.exit_code
    if end.reason == causes.OUT_OF_MEMORY:
        specs = [container for container in pod.spec.containers if container.name == name]
        limit = next(
            (spec.resources.limits.get("memory") for spec in specs if spec.resources and spec.resources.limits), None
        )
        return f"{title} was OOMKilled{f' over its limit of {one_line(limit)}' if limit else ''} (exit code {code})"
    # The message is the platform's only with a reason of its own (StartError); else it is what the program wrote.
    said = "" if end.reason in {None, "Error", "Completed"} else _told(end.reason, end.message)
    by_signal = signal_name(code)
    return f"{title} exited with code {code}{f' ({by_signal})' if by_signal else ''}{said}"


def _told(reason: str | None, message: str | None) -> str:
    """What Kubernetes says, as the end of a sentence."""
    said = " - ".join(one_line(part) for part in (reason, message) if part)
    return f": {said}" if said else ""
