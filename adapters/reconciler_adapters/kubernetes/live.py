"""The bulk look at what lives: every Job and pod of any run, reduced page by page to what is kept."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from reconciler.model import Condition, Observation, Resource, RunId
from reconciler_adapters.kubernetes import objects as k8s
from reconciler_adapters.kubernetes.meaning import judge, orphan
from reconciler_adapters.kubernetes.nodes import LastNode
from reconciler_adapters.kubernetes.pods import PodSight
from reconciler_adapters.kubernetes.reader import Reader
from reconciler_adapters.kubernetes.resources import Wording

_MAX_STRANGERS = 10_000


@dataclass(frozen=True, slots=True)
class Live:
    """What lives. Runs that show nothing alive are missing: they are looked up one by one."""

    observations: dict[RunId, list[Observation]] = field(default_factory=dict)
    strangers: list[Resource] = field(default_factory=list)
    nodes: dict[RunId, LastNode] = field(default_factory=dict)  # where a pod of each run lives, or may


def see_live(reader: Reader, asked: Collection[RunId], wording: Wording) -> Live:
    """Read pods first, then the Jobs that are judged with them; then come the pods that no live Job claims."""
    pods: dict[str | None, list[PodSight]] = {}
    for pod in reader.live_pods():
        pods.setdefault(pod.job_uid, []).append(pod)

    def take(job: k8s.Job, run_id: RunId) -> Resource | Observation | None:
        seen = judge(job, pods.get(job.metadata.uid, ()), run_id, wording)
        if not seen.condition.is_live:
            return None
        return seen if run_id in asked else seen.resource

    found: list[Resource | Observation] = reader.live_jobs(take)
    live = Live()
    claimed = {_add(live, seen) for seen in found}
    for job_uid, many in pods.items():
        for pod in many:
            if pod.condition is not Condition.EXITED:
                here = LastNode(pod.node, announced=pod.cause)
                live.nodes[pod.run_id] = here.or_on(live.nodes.get(pod.run_id, here))
            if pod.condition.is_live and job_uid not in claimed:
                alone = orphan(pod, wording)
                _add(live, alone if pod.run_id in asked else alone.resource)
    return live


def _add(live: Live, seen: Observation | Resource | None) -> str | None:
    """Keep the observation of a run that was asked for, or the resource of another. Gives the resource's id."""
    resource = seen.resource if isinstance(seen, Observation) else seen
    if resource is None:
        return None
    if isinstance(seen, Observation):
        live.observations.setdefault(resource.run_id, []).append(seen)
    elif len(live.strangers) < _MAX_STRANGERS:
        live.strangers.append(resource)
    return resource.id
