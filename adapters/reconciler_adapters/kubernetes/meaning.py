"""What a run's Jobs and pods mean. Pure.

The truth is the Job's, not the pod's: until it has the condition Complete or Failed it may make another pod, however
its present one fares (seen on 1.33: 8 s, then 17 s without any pod between two tries; that doubles up to 6 minutes).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from reconciler.model import Cause, Condition, Observation, Resource, RunId
from reconciler.words import one_line
from reconciler_adapters.kubernetes import objects as k8s
from reconciler_adapters.kubernetes.causes import DEADLINE
from reconciler_adapters.kubernetes.nodes import LastNode, NodeState
from reconciler_adapters.kubernetes.pods import PodSight
from reconciler_adapters.kubernetes.resources import Wording, of_job, of_pod

_PID = re.compile(r"(?:([^:]+):)?([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?):([a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?)")
_OWN_CONTROLLER = "kubernetes.io/job-controller"
_LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)
_ALIVE_FIRST = (Condition.ALIVE, Condition.STARTING, Condition.STOPPING, Condition.UNKNOWN)


@dataclass(frozen=True, slots=True)
class JobName:
    """What an infrastructure_pid says: `<namespace>:<job>`; before prefect-kubernetes 0.6.0 after the cluster's UID."""

    namespace: str
    name: str
    cluster_uid: str | None = None

    @classmethod
    def parse(cls, pid: str | None) -> JobName | None:
        found = _PID.fullmatch(pid or "")
        return cls(found[2], found[3], found[1]) if found else None

    @property
    def key(self) -> str:
        return f"{self.namespace}:{self.name}"

    @property
    def place(self) -> k8s.JobPlace:
        return self.namespace, self.name


_NO_NODE = LastNode()


def observe(
    jobs: Sequence[k8s.Job], pods: Sequence[PodSight], run_id: RunId, wording: Wording, node: LastNode = _NO_NODE
) -> Iterator[Observation]:
    """One observation for each Job of a run, and one for each pod whose Job is not among them."""
    for job in jobs:
        yield judge(job, [pod for pod in pods if pod.job_uid == job.metadata.uid], run_id, wording, node)
    known = {job.metadata.uid for job in jobs}
    for pod in pods:
        if pod.job_uid not in known:
            yield orphan(pod, wording)


def judge(
    job: k8s.Job, pods: Sequence[PodSight], run_id: RunId, wording: Wording, node: LastNode = _NO_NODE
) -> Observation:
    """Say what was seen of one Job with its pods."""
    last = max(pods, key=lambda pod: (pod.created_at or _LONG_AGO, pod.uid), default=None)
    resource = of_job(job, run_id, wording, last.node if last else node.name)
    end, alive = _end(job), _most_alive(pods)
    if alive is not None:
        return _with_pod(alive, resource, is_over=end is not None)
    is_over = end is not None or job.metadata.deletion_timestamp is not None
    if life := _life_out_of_sight(job, pods, has_ended=end is not None):
        condition = Condition.STOPPING if is_over else Condition.ALIVE
        return Observation(condition=condition, reason=life, resource=resource)
    unseen = any(pod.unseen_end for pod in pods) or _lacks_pods(job, pods, node)
    if end is not None:
        return _over(job, end, last, resource, node, unseen_end=unseen and end.type == "Failed")
    if job.metadata.deletion_timestamp or (last is not None and last.lingers and not _tries_left(job)):
        return _not_again(last, resource, node, unseen_end=unseen)
    return Observation(condition=Condition.STARTING, reason=_between_pods(job, last), resource=resource)


def _life_out_of_sight(job: k8s.Job, pods: Sequence[PodSight], *, has_ended: bool) -> str:
    """Pods that no list by the run's id showed, or nothing.

    Workers before prefect-kubernetes 0.6 label the Job alone (0.5.3 read; prefect #17401), and so do some manifests.
    """
    unlisted = (job.status.active or 0) - sum(pod.lingers for pod in pods)
    if unlisted > 0:
        return f"still counts {unlisted} active pod{'s' * (unlisted > 1)}, of which none is seen alive"
    manager = job.spec.managed_by
    elsewhere = manager and manager != _OWN_CONTROLLER and not (pods or has_ended)
    return f"is managed by {one_line(manager, 80)}, so its pods may be in another cluster" if elsewhere else ""


def _lacks_pods(job: k8s.Job, pods: Sequence[PodSight], node: LastNode) -> bool:
    """Whether a pod is gone of which nobody can say how it ended: not its node either, or not which node it was."""
    failed = job.status.failed or 0
    if pods or failed > 1:
        return failed > sum(pod.condition is Condition.EXITED for pod in pods)
    return node.state is not NodeState.WELL


def orphan(pod: PodSight, wording: Wording) -> Observation:
    """Say what was seen of a pod whose Job is gone: deleting a Job leaves its pod running by default (seen on 1.33)."""
    without_job = pod.condition is Condition.EXITED and pod.job_name
    told = f"{pod.reason}; its Job no longer exists" if without_job else pod.reason
    return Observation(
        condition=pod.condition,
        reason=_of(pod) if pod.condition is Condition.UNKNOWN else told,
        resource=of_pod(pod, wording),
        exit_code=pod.exit_code,
        ended_at=pod.ended_at,
        unseen_end=pod.unseen_end,
        cause=pod.cause if pod.condition is Condition.EXITED else None,
    )


def gone(name: JobName, run_id: RunId, wording: Wording, node: LastNode) -> Observation:
    """Say that neither a look-up by the run's id nor one by its pid found anything."""
    return Observation(
        condition=Condition.GONE,
        reason=f"no longer exists{node.words}",
        resource=Resource(
            id=name.key,
            title=wording.title("Job", name.namespace, name.name),
            run_id=run_id,
            key=name.key,
            node=node.name,
        ),
        unseen_end=node.state is not NodeState.WELL,
        cause=node.cause,
    )


def without_node(pod: PodSight) -> PodSight:
    """Give up a pod whose node no longer exists: nobody will report on it, and the garbage collector takes it."""
    told = f"was lost: its node {pod.node} no longer exists"
    ended = replace(pod, condition=Condition.EXITED, reason=told, unseen_end=True, cause=Cause.NODE_LOST)
    return replace(ended, ended_at=None, exit_code=None)


def _end(job: k8s.Job) -> k8s.Condition | None:
    """The condition that ends a Job for good. FailureTarget and SuccessCriteriaMet only announce one (seen on 1.33)."""
    for condition in job.status.conditions or ():
        if condition.type in {"Complete", "Failed"} and condition.status == "True":
            return condition
    return None


def _most_alive(pods: Sequence[PodSight]) -> PodSight | None:
    ranked = [pod for condition in _ALIVE_FIRST for pod in pods if pod.condition is condition]
    return ranked[0] if ranked else None


def _with_pod(pod: PodSight, resource: Resource, *, is_over: bool) -> Observation:
    """A Job with a pod that lives, or may."""
    if pod.condition is Condition.UNKNOWN:
        return Observation(condition=Condition.UNKNOWN, reason=_of(pod), resource=resource)
    if is_over:
        return Observation(condition=Condition.STOPPING, reason=f"is over, but {_of(pod)}", resource=resource)
    told = pod.reason if pod.condition is Condition.ALIVE else f"has a pod that {pod.reason}"
    return Observation(condition=pod.condition, reason=told, resource=resource)


def _between_pods(job: k8s.Job, last: PodSight | None) -> str:
    if job.spec.suspend:
        return "is suspended"
    if last is not None and last.lingers:
        return f"goes on only when the other containers have ended: {_of(last)}"
    if last is not None:
        return f"has not made its next pod yet: {_of(last)}"
    failed = job.status.failed or 0
    return f"has no live pod ({failed} failed before)" if failed else "has no live pod"


def _tries_left(job: k8s.Job) -> bool:
    """Whether the Job may answer an ended pod with a new one. A policy may leave failures uncounted."""
    spec = job.spec
    limit = 6 if spec.backoff_limit is None else spec.backoff_limit
    is_single = spec.completions in {None, 1} and spec.parallelism in {None, 0, 1}
    return not is_single or spec.pod_failure_policy is not None or (job.status.failed or 0) < limit


def _over(
    job: k8s.Job,
    end: k8s.Condition,
    last: PodSight | None,
    resource: Resource,
    node: LastNode,
    *,
    unseen_end: bool,
) -> Observation:
    """A Job that says itself that it has ended."""
    completed = end.type == "Complete"
    told = "completed" if completed else f"failed: {end.reason or 'no reason given'}"
    if last is not None:
        told += f"; {_of(last)}"
    elif not completed and end.message:
        told += f" - {one_line(end.message)}"
    return Observation(
        condition=Condition.EXITED,
        reason=told if last else told + node.words,
        resource=resource,
        exit_code=0 if completed else last.exit_code if last else None,
        ended_at=k8s.at_the_latest(end.last_transition_time),
        unseen_end=unseen_end,
        cause=_why(job, end, last, node),
    )


def _not_again(last: PodSight | None, resource: Resource, node: LastNode, *, unseen_end: bool) -> Observation:
    """A Job that makes no more pods, though it does not say that it has ended: one that is being deleted makes none."""
    return Observation(
        condition=Condition.EXITED,
        reason=f"will not run again: {_of(last)}" if last else f"is being deleted, and has no pod left{node.words}",
        resource=resource,
        exit_code=last.exit_code if last else None,
        ended_at=last.ended_at if last else None,
        unseen_end=unseen_end,
        cause=last.cause if last else node.cause or Cause.REMOVED,
    )


def _why(job: k8s.Job, end: k8s.Condition, last: PodSight | None, node: LastNode) -> Cause | None:
    """Why a Job is over, in one word: its own deadline, else what ended its last pod."""
    if end.type == "Failed" and end.reason == DEADLINE:
        return Cause.DEADLINE_EXCEEDED
    if last is not None:
        return last.cause
    # of several pods, one node does not say it
    return node.cause if end.type == "Failed" and (job.status.failed or 0) <= 1 else None


def _of(pod: PodSight) -> str:
    node = f" on node {pod.node}" if pod.node else ""
    return f"pod {pod.name}{node} {pod.reason}"
