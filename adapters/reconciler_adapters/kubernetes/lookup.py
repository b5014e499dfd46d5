"""The look-up of runs that show no live resource: by their ids, by their pids, and by what was seen of them before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from reconciler.model import Condition, FlowRun, Observation, RunId
from reconciler_adapters.kubernetes import objects as k8s
from reconciler_adapters.kubernetes.meaning import JobName, gone, observe, without_node
from reconciler_adapters.kubernetes.nodes import LastNode, NodeState
from reconciler_adapters.kubernetes.pods import PodSight, sight
from reconciler_adapters.kubernetes.reader import Reader
from reconciler_adapters.kubernetes.remembered import Remembered
from reconciler_adapters.kubernetes.resources import Wording


@dataclass(frozen=True, slots=True, kw_only=True)
class LookUp:
    """One look at some runs, through `reader`."""

    reader: Reader
    names: Mapping[RunId, JobName]  # what pids name, of those that this scope may hold
    before: Mapping[RunId, Remembered]  # what was last seen alive of them
    nodes: Mapping[RunId, LastNode]  # where pods were seen before
    wording: Wording

    def of(self, runs: Sequence[FlowRun]) -> dict[RunId, list[Observation]]:
        ids = [run.id for run in runs]
        pods: dict[RunId, list[PodSight]] = {run_id: [] for run_id in ids}
        jobs: dict[RunId, list[k8s.Job]] = {run_id: [] for run_id in ids}
        for pod in self.reader.pods_of(ids):
            pods[pod.run_id].append(self._settled(pod))
        for job in self.reader.jobs_of(ids):
            if job.metadata.run_id:
                jobs[job.metadata.run_id].append(job)
        listed = {run_id: {job.metadata.place for job in jobs[run_id]} for run_id in ids}
        wanted = [name for run_id in ids for name in self._named(run_id) if name.place not in listed[run_id]]
        existing = self.reader.existing(wanted)
        doubts = self._add_remembered(jobs, existing)
        self._add_unlabelled(pods, jobs)
        return {run_id: list(self._of(run_id, jobs[run_id], pods[run_id], existing, doubts)) for run_id in ids}

    def _named(self, run_id: RunId) -> set[JobName]:
        """The Jobs to be looked for by name: the one of the run's pid, and the one that was seen alive."""
        before = self.before.get(run_id)
        return {name for name in (self.names.get(run_id), before.name if before else None) if name}

    def _add_remembered(self, jobs: dict[RunId, list[k8s.Job]], existing: set[k8s.JobPlace]) -> dict[RunId, str]:
        """Give each run the Job that was seen alive as its, label or not. Gives why another may be the run's."""
        doubts: dict[RunId, str] = {}
        for run_id, before in self.before.items():
            name = before.name
            if name is None or name.place in {job.metadata.place for job in jobs[run_id]}:
                continue
            job = self.reader.job(name) if name.place in existing else None
            if job is None:
                continue
            if job.metadata.uid == before.uid and job.metadata.run_id in {run_id, None}:
                jobs[run_id].append(job)
            elif told := before.doubt(job):
                doubts[run_id] = told
        return doubts

    def _add_unlabelled(self, pods: dict[RunId, list[PodSight]], jobs: Mapping[RunId, Sequence[k8s.Job]]) -> None:
        """Give each run the pods that do not carry its id, of those of its Jobs of which none was found by the id."""
        runs: dict[k8s.JobPlace, set[RunId]] = {}
        for run_id, many in pods.items():
            places = {job.metadata.place for job in jobs[run_id]} | {name.place for name in self._named(run_id)}
            for place in places - {(pod.namespace, pod.job_name) for pod in many}:
                runs.setdefault(place, set()).add(run_id)
        for place, pod in self.reader.unlabelled_pods_of(runs):
            for run_id in runs[place]:
                seen = self._settled(sight(pod, run_id))
                if self._is_of(run_id, jobs[run_id], seen, place):
                    pods[run_id].append(seen)

    def _is_of(self, run_id: RunId, jobs: Sequence[k8s.Job], pod: PodSight, place: k8s.JobPlace) -> bool:
        """A name outlives its Job: an end counts only for the Job that owned the pod, a life for each that is named."""
        before, named = self.before.get(run_id), self.names.get(run_id)
        if pod.job_uid in {job.metadata.uid for job in jobs} or (before and before.is_of(pod, place)):
            return True
        places = {job.metadata.place for job in jobs} | ({named.place} if named else set())
        return pod.condition is not Condition.EXITED and place in places

    def _of(
        self,
        run_id: RunId,
        jobs: list[k8s.Job],
        pods: list[PodSight],
        existing: set[k8s.JobPlace],
        doubts: Mapping[RunId, str],
    ) -> Iterator[Observation]:
        """What was seen of one run."""
        name = self.names.get(run_id)
        if name and name.place in {job.metadata.place for job in jobs}:
            name = None
        named = self.reader.job(name) if name and name.place in existing else None
        other = None if named is None or named.metadata.run_id in {run_id, None} else named
        if other is not None:
            pods = [pod for pod in pods if pod.job_uid != other.metadata.uid]
        elif named is not None and named.metadata.run_id == run_id:
            jobs = [*jobs, named]  # made since the list was read
        jobs = [*jobs, *self._owners(jobs, pods)]
        seen = list(observe(jobs, pods, run_id, self.wording))
        # nodes are read for those only of whom it matters
        if any(one.unseen_end for one in seen):
            seen = list(observe(jobs, pods, run_id, self.wording, self._last_node(run_id)))
        yield from seen
        if doubt := self._doubt(run_id, seen, doubts):
            yield Observation(condition=Condition.UNKNOWN, reason=doubt)
        elif named is None or other is not None:
            if name or not seen:
                yield self._gone(name, run_id, other)
        elif name and named.metadata.uid not in {job.metadata.uid for job in jobs}:
            reason = f"Job {name.namespace}/{name.name}, which the run's pid names, carries no flow run's id (any more)"
            yield Observation(condition=Condition.UNKNOWN, reason=reason)

    def _doubt(self, run_id: RunId, seen: Sequence[Observation], doubts: Mapping[RunId, str]) -> str | None:
        """Why what was seen alive of the run may be there still, although nothing shows it."""
        before = self.before.get(run_id)
        if before and before.name is None and not seen and run_id not in self.names:
            return f"{before.title}, which was seen alive as this run's, has no Job by whose name it could be looked up"
        return doubts.get(run_id)

    def _owners(self, jobs: Sequence[k8s.Job], pods: Sequence[PodSight]) -> list[k8s.Job]:
        """The Jobs of pods that ended, as far as no list showed them: their own label may have been taken off."""
        known, found = {job.metadata.uid for job in jobs}, dict[str, k8s.Job]()
        for pod in pods:
            if pod.condition is Condition.EXITED and pod.job_name and pod.job_uid and pod.job_uid not in known:
                owner = self.reader.job(JobName(pod.namespace, pod.job_name))
                if owner is not None and owner.metadata.uid == pod.job_uid:
                    found[pod.job_uid] = owner
        return list(found.values())

    def _gone(self, name: JobName | None, run_id: RunId, other: k8s.Job | None) -> Observation:
        node = self._last_node(run_id)
        if name is None:
            return Observation(
                condition=Condition.GONE,
                reason=f"was not found{node.words}",
                unseen_end=node.state is not NodeState.WELL,
                cause=node.cause,
            )
        seen = gone(name, run_id, self.wording, node)
        if other is not None:
            told = f"no longer exists: that name is now of a Job of flow run {other.metadata.run_id}"
            return replace(seen, reason=told, cause=None)
        if self.reader.has_namespace(name.namespace):
            return seen
        # A namespace that is not there may be another cluster's, unless the pid names this one.
        told = f"does not exist, nor does its namespace {name.namespace}"
        return replace(seen, reason=told, needs_sighting=name.cluster_uid is None, cause=None)

    def _last_node(self, run_id: RunId) -> LastNode:
        node = self.nodes.get(run_id, LastNode())
        return replace(node, state=self.reader.node(node.name)) if node.name else node

    def _settled(self, pod: PodSight) -> PodSight:
        """A pod of which nothing is heard is over if its node is gone; an end that nobody saw is one if it is well."""
        in_doubt = pod.condition is Condition.UNKNOWN or pod.unseen_end
        node = self.reader.node(pod.node) if pod.node and in_doubt else NodeState.UNSAID
        if pod.condition is Condition.UNKNOWN:
            return without_node(pod) if node is NodeState.GONE else pod
        return replace(pod, unseen_end=False) if node is NodeState.WELL else pod
