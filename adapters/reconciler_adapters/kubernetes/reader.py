"""What is read of one cluster in one look: its live Jobs and pods, those of single runs, and single objects by name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TypeVar

from reconciler.model import RunId
from reconciler_adapters.kubernetes import objects as k8s
from reconciler_adapters.kubernetes.calls import FORBIDDEN, Conversation, Refused
from reconciler_adapters.kubernetes.cluster import Cluster
from reconciler_adapters.kubernetes.meaning import JobName
from reconciler_adapters.kubernetes.nodes import NodeState
from reconciler_adapters.kubernetes.pods import PodSight, sight

ItemT = TypeVar("ItemT")
SeenT = TypeVar("SeenT")

JOBS, PODS, NAMESPACES, NODES = "/apis/batch/v1/{}jobs", "/api/v1/{}pods", "/api/v1/namespaces", "/api/v1/nodes"
_BATCH = 100  # values in one `in (...)`: an address of 4 kB of run ids, 7 kB of long names
_LONGEST_LABEL = 63  # a longer value in a selector is refused, and no pod has it
_MANY = 100  # names; above this one list of all Jobs' names is cheaper than a look at each
_MANY_NODES = 50


class Reader:
    """Reads through one conversation. Lists are whole, or an exception."""

    def __init__(self, talk: Conversation, cluster: Cluster) -> None:
        self._talk = talk
        self._cluster = cluster
        self._namespaces: dict[str, bool] = {}
        self._nodes: dict[str, NodeState] = {}
        self._jobs: dict[k8s.JobPlace, k8s.Job | None] = {}
        self._may_read_nodes = True

    def live_pods(self) -> list[PodSight]:
        """Every pod of any run that has not ended."""
        living = "status.phase!=Succeeded,status.phase!=Failed"
        return self._listed(PODS, k8s.Pod, _sight, labelSelector=self._any_run, fieldSelector=living)

    def live_jobs(self, take: Callable[[k8s.Job, RunId], SeenT | None]) -> list[SeenT]:
        """What `take` makes of every Job of any run that none of its pods completed. It may be called twice for a Job.

        Those that failed come along, and are for `take` to drop: the server selects by no other field. A Job of several
        completions of which one is done is missing here; its pods and the look-up by run id show it.
        """
        return self._listed(
            JOBS,
            k8s.Job,
            lambda job: take(job, run_id) if (run_id := job.metadata.run_id) else None,
            labelSelector=self._any_run,
            fieldSelector="status.successful=0",
        )

    def jobs_of(self, run_ids: Sequence[RunId]) -> list[k8s.Job]:
        """Every Job of these runs, ended ones too."""
        asked = set(run_ids)
        return [
            job
            for selector in _selectors(k8s.RUN_LABEL, run_ids)
            for job in self._listed(JOBS, k8s.Job, lambda job: job, labelSelector=selector)
            if job.metadata.run_id in asked
        ]

    def pods_of(self, run_ids: Sequence[RunId]) -> list[PodSight]:
        """Every pod of these runs, ended ones too."""
        asked = set(run_ids)
        return [
            pod
            for selector in _selectors(k8s.RUN_LABEL, run_ids)
            for pod in self._listed(PODS, k8s.Pod, _sight, labelSelector=selector)
            if pod.run_id in asked
        ]

    def unlabelled_pods_of(self, jobs: Collection[k8s.JobPlace]) -> list[tuple[k8s.JobPlace, k8s.Pod]]:
        """Every pod of these Jobs that carries no run's id: older workers label the Job alone (see `meaning.py`)."""

        def take(pod: k8s.Pod) -> tuple[k8s.JobPlace, k8s.Pod] | None:
            labels = pod.metadata.labels or k8s.Labels()
            place = pod.metadata.namespace, labels.job or ""
            return (place, pod) if labels.run_id is None and place in jobs else None

        names = sorted({name for _, name in jobs if len(name) <= _LONGEST_LABEL})
        return [
            found
            for selector in _selectors("job-name", names)
            for found in self._listed(PODS, k8s.Pod, take, labelSelector=selector)
        ]

    def existing(self, names: Iterable[JobName]) -> set[k8s.JobPlace]:
        """Which of these may exist: all of them if they are few, else those that a list of all Jobs' names holds."""
        wanted = {name.place for name in names}
        if len(wanted) <= _MANY:
            return wanted

        def take(one: k8s.Bare) -> k8s.JobPlace | None:
            place = one.metadata.namespace, one.metadata.name
            return place if place in wanted else None

        return set(self._listed(JOBS, k8s.Bare, take))

    def job(self, name: JobName) -> k8s.Job | None:
        if name.place not in self._jobs:
            path = JOBS.format(f"namespaces/{name.namespace}/")
            self._jobs[name.place] = self._talk.found(path, name.name, k8s.Job)
        return self._jobs[name.place]

    def has_namespace(self, name: str) -> bool:
        if name not in self._namespaces:
            self._namespaces[name] = self._talk.found(NAMESPACES, name, k8s.Bare) is not None
        return self._namespaces[name]

    def node(self, name: str) -> NodeState:
        if name not in self._nodes:
            self._nodes[name] = self._look_at_node(name) if len(self._nodes) < _MANY_NODES else NodeState.UNSAID
        return self._nodes[name]

    def _look_at_node(self, name: str) -> NodeState:
        if not self._may_read_nodes:
            return NodeState.UNSAID
        try:
            node = self._talk.found(NODES, name, k8s.Node)
        except Refused as error:
            if error.status != FORBIDDEN:
                raise
            self._may_read_nodes = False  # a right that an account may do without
            return NodeState.UNSAID
        if node is None:
            return NodeState.GONE
        told = [condition.status for condition in node.status.conditions or () if condition.type == "Ready"]
        return NodeState.WELL if told == ["True"] else NodeState.LOST

    @property
    def _any_run(self) -> str:
        return ",".join(filter(None, [k8s.RUN_LABEL, self._cluster.label_selector]))

    def _listed(
        self,
        path: str,
        item: type[ItemT],
        take: Callable[[ItemT], SeenT | None],
        **selectors: str,
    ) -> list[SeenT]:
        places = [f"namespaces/{namespace}/" for namespace in self._cluster.namespaces] or [""]
        return [seen for place in places for seen in self._talk.listed(path.format(place), item, take, **selectors)]


def _sight(pod: k8s.Pod) -> PodSight | None:
    run_id = pod.metadata.run_id
    return sight(pod, run_id) if run_id else None


def _selectors(label: str, values: Sequence[object]) -> Iterator[str]:
    for start in range(0, len(values), _BATCH):
        yield f"{label} in ({','.join(map(str, values[start : start + _BATCH]))})"
