"""The look-up of runs: the tasks that are named first, then, for those that show no live one, all tasks there are."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from reconciler.model import Condition, FlowRun, Observation, Resource, RunId
from reconciler_adapters.ecs import objects as ecs
from reconciler_adapters.ecs.calls import Conversation, Described
from reconciler_adapters.ecs.meaning import ENDED, gone, observe, resource_of
from reconciler_adapters.ecs.names import ClusterName, TaskName

# "... up to five minutes of wait time": how long what RunTask made may not be shown (its documentation in botocore)
LAG = timedelta(minutes=5)
_PAUSES = (0.0, 1.0, 2.0)  # seconds before each try to describe what is listed
_PATIENCE = 5.0  # seconds that must be left after a pause
_MAX_STRANGERS = 10_000
_MANY = 20_000  # tasks of which it is known whose they are

Whose = dict[str, Resource | None]


@dataclass(slots=True)
class LookUp:
    """One look at some runs. `whose` outlives it: the tasks that were seen to carry a run's id, or for good none."""

    talk: Conversation
    clusters: Sequence[ClusterName]
    remembered: Mapping[RunId, str]  # ARNs of what was seen alive of them
    whose: Whose
    strangers: list[Resource] = field(default_factory=list)
    incomplete: str | None = None  # why not all that is listed could be read
    _described: Described = field(default_factory=Described)
    _listed: set[str] | None = None  # None: no list was needed

    def of(self, runs: Sequence[FlowRun]) -> dict[RunId, list[Observation]]:
        named = {run.id: self._named(run) for run in runs}
        self._describe({name.arn: name.cluster for names in named.values() for name in names})
        seen = {run_id: [self._of_named(name, run_id) for name in names] for run_id, names in named.items()}
        suspects = {run_id for run_id, many in seen.items() if not any(one.condition.is_live for one in many)}
        if suspects:  # RunTask may have been sent twice, or its answer be lost
            listed = self.talk.listed(self.clusters)
            self._listed = set().union(*listed.values())
            suspected = {name.arn for run_id in suspects for name in named[run_id]}
            for cluster, arns in listed.items():
                self._read(
                    cluster, {arn: arns[arn] for arn in arns if arn in suspected or self._may_be_of(arn, suspects)}
                )
            found = self._found(listed, seen.keys())
            for run_id in suspects:
                seen[run_id] = self._of_suspect(run_id, named[run_id], found.get(run_id, {}))
        return seen

    def kept(self) -> Whose:
        """What the next look may use of `whose`: the tasks that still are; all of them, if no list was made."""
        if self._listed is None and len(self.whose) <= 2 * len(self._described.tasks) + _MANY:
            return self.whose
        still = self._described.tasks.keys() | (self._listed or set())
        return {arn: whose for arn, whose in self.whose.items() if arn in still}

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
                seen.append(one if self.whose.get(name.arn) else replace(one, resource=_part(one.resource)))
        return seen or [Observation(condition=Condition.GONE, reason="was not found", unseen_end=True)]

    def _read(self, cluster: ClusterName, listed: Mapping[str, bool]) -> None:
        """Describe what is listed. What was just made may be known to one half of ECS only, so that is asked again."""
        unread = listed.keys() - self._described.tasks.keys()
        for pause in _PAUSES:
            late = unread if not pause else unread & self._described.missing
            if not late or (pause and self.talk.seconds_left < pause + _PATIENCE):
                break
            time.sleep(pause)
            unread -= self._describe(dict.fromkeys(late, cluster)).tasks.keys()
            # what was to stop was forgotten meanwhile
            unread -= {arn for arn in unread & self._described.missing if not listed[arn]}
        if unread:
            many = f"{len(unread)} tasks" if len(unread) > 1 else "a task"
            self.incomplete = f"ECS lists {many} of cluster {cluster.name}, and does not describe what it lists"

    def _may_be_of(self, arn: str, suspects: Collection[RunId]) -> bool:
        if arn not in self.whose:
            return True
        known = self.whose[arn]
        return known is not None and known.run_id in suspects

    def _found(
        self, listed: Mapping[ClusterName, Mapping[str, bool]], asked: Collection[RunId]
    ) -> dict[RunId, dict[TaskName, ecs.Task]]:
        """The tasks that carry a run's id. Live ones of runs that were not asked for are strangers."""
        found: dict[RunId, dict[TaskName, ecs.Task]] = {}
        for name, is_wanted in ((TaskName(one, arn), wanted) for one in listed for arn, wanted in listed[one].items()):
            task = self._described.tasks.get(name.arn)
            ended = not is_wanted if task is None else task.last_status == ENDED
            resource = self.whose.get(name.arn)
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
        for arn, task in described.tasks.items():
            self._note_whose(TaskName(arns[arn], arn), task)
        return described

    def _note_whose(self, name: TaskName, task: ecs.Task) -> None:
        """Keep whose it is: StopTask may delete its tag. None: it has none, and is too old to get one from Prefect."""
        if task.tagged is not None:
            self.whose[name.arn] = resource_of(task, name, task.tagged)
        elif task.told is None and self._is_old(ecs.time_of(task.created_at)):
            self.whose.setdefault(name.arn, None)

    def _is_old(self, made: datetime | None) -> bool:
        now = self.talk.time
        return made is not None and now is not None and now - made > LAG


def _part(resource: Resource | None) -> Resource | None:
    """It may be a part only of what runs the flow."""
    return replace(resource, is_whole=False) if resource else None
