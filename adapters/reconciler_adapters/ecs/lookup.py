"""The look-up of runs: the tasks that are named first, then, for those that show no live one, all tasks there are."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from reconciler.model import Condition, FlowRun, Observation, Resource, RunId
from reconciler_adapters.ecs import objects as ecs
from reconciler_adapters.ecs.calls import Conversation, Described
from reconciler_adapters.ecs.meaning import ENDED, gone, observe, resource_of
from reconciler_adapters.ecs.names import ClusterName, TaskName
from reconciler_adapters.ecs.owners import Owners

# "... up to five minutes of wait time": how long what RunTask made may not be shown (its documentation in botocore)
LAG = timedelta(minutes=5)
_PAUSES = (0.0, 1.0, 2.0)  # seconds before each try to describe what is listed
_PATIENCE = 5.0  # seconds that must be left after a pause
_MAX_STRANGERS = 10_000
_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(slots=True)
class LookUp:
    """One look at some runs. `owners` outlives it."""

    talk: Conversation
    clusters: Sequence[ClusterName]
    remembered: Mapping[RunId, str]  # ARNs of what was seen alive of them
    owners: Owners
    strangers: list[Resource] = field(default_factory=list)
    incomplete: str | None = None  # why not all that is listed could be read
    _described: Described = field(default_factory=Described)

    def of(self, runs: Sequence[FlowRun]) -> dict[RunId, list[Observation]]:
        named = {run.id: self._named(run) for run in runs}
        self._describe({name.arn: name.cluster for names in named.values() for name in names})
        seen = {run_id: [self._of_named(name, run_id) for name in names] for run_id, names in named.items()}
        suspects = {run_id for run_id, many in seen.items() if not any(one.condition.is_live for one in many)}
        listed: dict[TaskName, bool] | None = None
        if suspects:  # RunTask may have been sent twice, or its answer be lost
            listed = self.talk.listed(self.clusters)
            suspected = {name for run_id in suspects for name in named[run_id]}
            self._read(
                {name for name in listed if name in suspected or self.owners.may_be_of(name.arn, suspects)}, listed
            )
            found = self._found(listed, seen.keys())
            for run_id in suspects:
                seen[run_id] = self._of_suspect(run_id, named[run_id], found.get(run_id, {}))
        self.owners.tidy(self._described.tasks.keys(), None if listed is None else {name.arn for name in listed})
        return seen

    def _named(self, run: FlowRun) -> list[TaskName]:
        """The tasks that its pid names, and that was seen of it before, as far as they are of these clusters."""
        names = [TaskName.parse(run.pid), TaskName.parse(self.remembered.get(run.id))]
        mine = {name.arn: name for name in names if name and name.cluster in self.clusters}
        return list(mine.values())

    def _of_named(self, name: TaskName, run_id: RunId) -> Observation:
        task = self._described.tasks.get(name.arn)
        if task is None and name.arn in self._described.missing:
            return gone(name, run_id)
        if task is None:
            untold = self._described.untold.get(name.arn, "it was not described")
            return Observation(condition=Condition.UNKNOWN, reason=f"{name.title}: {untold}")
        carried = {task.tagged, task.told} - {None}
        if carried and run_id not in carried:
            reason = f"{name.title}, known as this run's, carries the id of flow run {task.tagged or task.told}"
            return Observation(condition=Condition.UNKNOWN, reason=reason)
        return observe(task, name, run_id)

    def _of_suspect(
        self, run_id: RunId, named: Sequence[TaskName], found: Mapping[TaskName, ecs.Task]
    ) -> list[Observation]:
        seen = [self._of_named(name, run_id) for name in named]
        for name, task in found.items():
            if name not in named:
                one = observe(task, name, run_id)
                seen.append(one if self.owners.tagged(name.arn) else replace(one, resource=_part(one.resource)))
        return seen or [Observation(condition=Condition.GONE, reason="was not found", unseen_end=True)]

    def _read(self, unread: set[TaskName], listed: Mapping[TaskName, bool]) -> None:
        """Describe what is listed. What was just made may be known to one half of ECS only, so that is asked again."""
        unread = {name for name in unread if name.arn not in self._described.tasks}
        for pause in _PAUSES:
            again = {name for name in unread if not pause or name.arn in self._described.missing}
            if not again or (pause and self.talk.seconds_left < pause + _PATIENCE):
                break
            time.sleep(pause)
            described = self._describe({name.arn: name.cluster for name in again})
            # what is to stop, or has, was forgotten meanwhile
            forgotten = {name for name in unread if name.arn in described.missing and not listed[name]}
            unread = {name for name in unread if name.arn not in described.tasks} - forgotten
        if unread:
            where = " and ".join(sorted({name.cluster.name for name in unread}))
            many = f"{len(unread)} tasks" if len(unread) > 1 else "a task"
            self.incomplete = f"ECS lists {many} of cluster {where}, and does not describe what it lists"

    def _found(
        self, listed: Mapping[TaskName, bool], asked: Collection[RunId]
    ) -> dict[RunId, dict[TaskName, ecs.Task]]:
        """The tasks that carry the id of a run that was asked for. Live ones of other runs are strangers."""
        found: dict[RunId, dict[TaskName, ecs.Task]] = {}
        for name, is_wanted in listed.items():
            task = self._described.tasks.get(name.arn)
            ended = not is_wanted if task is None else task.last_status == ENDED
            resource = self.owners.tagged(name.arn)
            if resource is None and task is not None and task.told and not ended:
                # A flow may copy its environment to what it starts: that vouches for a life, never for an end.
                resource = _part(resource_of(task, name, task.told))
            if resource is None:
                continue
            if task is not None and resource.run_id in asked:
                found.setdefault(resource.run_id, {})[name] = task
            elif resource.run_id not in asked and not ended and len(self.strangers) < _MAX_STRANGERS:
                self.strangers.append(resource)
        return found

    def _describe(self, arns: Mapping[str, ClusterName]) -> Described:
        by_cluster: dict[ClusterName, list[str]] = {}
        for arn, cluster in arns.items():
            by_cluster.setdefault(cluster, []).append(arn)
        described = self.talk.describe(by_cluster)
        self._described.tasks |= described.tasks
        self._described.missing |= described.missing
        self._described.untold |= described.untold
        old = self.talk.time - LAG if self.talk.time else _EPOCH
        for arn, task in described.tasks.items():
            self.owners.note(TaskName(arns[arn], arn), task, old)
        return described


def _part(resource: Resource | None) -> Resource | None:
    """It may be a part only of what runs the flow."""
    return replace(resource, is_whole=False) if resource else None
