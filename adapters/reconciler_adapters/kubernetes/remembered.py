"""What was seen alive of a run before. Its labels may have been taken off since; its name and its UID stay. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from reconciler.model import Condition, Resource
from reconciler_adapters.kubernetes import objects as k8s
from reconciler_adapters.kubernetes.meaning import JobName
from reconciler_adapters.kubernetes.pods import PodSight


@dataclass(frozen=True, slots=True)
class Remembered:
    """A Job, or a pod whose Job did not show: it was deleted, or its label had been taken off already."""

    uid: str
    title: str
    name: JobName | None  # of the Job, also of a pod's; None: a pod without one, which no look-up by name finds
    no_later_than: datetime | None  # when it was made

    @classmethod
    def of(cls, resource: Resource) -> Remembered:
        made = resource.created_at + resource.created_within if resource.created_at else None
        return cls(resource.id, resource.title, JobName.parse(resource.key), made)

    def is_of(self, pod: PodSight, place: k8s.JobPlace) -> bool:
        """Whether that is it, or a pod of it. Of one that lost its Job only the Job's name can be compared."""
        lost_its_job = pod.job_uid is None and pod.condition is not Condition.EXITED
        return self.uid in {pod.uid, pod.job_uid} or (
            lost_its_job and self.name is not None and self.name.place == place
        )

    def doubt(self, job: k8s.Job) -> str | None:
        """Why the Job that has the name now may be the run's, though nothing says so. One made later is not."""
        meta, where = job.metadata, f"Job {job.metadata.namespace}/{job.metadata.name}"
        if meta.uid == self.uid and meta.run_id is not None:
            return f"{where}, which was seen alive as this run's, carries the id of flow run {meta.run_id} now"
        is_newer = self.no_later_than and meta.creation_timestamp and meta.creation_timestamp > self.no_later_than
        if meta.uid == self.uid or meta.run_id is not None or is_newer:
            return None
        return f"{where}, the name of what was seen alive as this run's, carries no flow run's id (any more)"
