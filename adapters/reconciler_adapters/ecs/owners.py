"""Whose each task is, as far as it was seen: what one look learns, the next need not ask again."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from reconciler.model import Resource, RunId
from reconciler_adapters.ecs import objects as ecs
from reconciler_adapters.ecs.meaning import resource_of
from reconciler_adapters.ecs.names import TaskName

_MANY = 20_000  # tasks


class Owners:
    """The tasks that were seen with a run's tag, and those that have none and are too old to get one from Prefect."""

    def __init__(self) -> None:
        self._tagged: dict[str, Resource] = {}
        self._without: set[str] = set()

    def note(self, name: TaskName, task: ecs.Task, old: datetime) -> None:
        """Learn from a task. What was made before `old` shows its tag by now; StopTask deletes one that was seen."""
        made = ecs.time_of(task.created_at)
        if task.tagged is not None:
            self._tagged[name.arn] = resource_of(task, name, task.tagged)
        elif task.told is None and made is not None and made < old:
            self._without.add(name.arn)

    def tagged(self, arn: str) -> Resource | None:
        """The task as it was when it was seen with a run's tag."""
        return self._tagged.get(arn)

    def may_be_of(self, arn: str, run_ids: Collection[RunId]) -> bool:
        """Whether the task must be looked at to say that it is none of these runs'."""
        known = self._tagged.get(arn)
        return known.run_id in run_ids if known else arn not in self._without

    def tidy(self, described: Collection[str], listed: Collection[str] | None) -> None:
        """Forget the tasks that are no more: without a list that is not known, so only when there are too many."""
        too_many = len(self._tagged) + len(self._without) > 2 * len(described) + _MANY
        if listed is not None or too_many:
            still = {*described, *(listed or ())}
            self._tagged = {arn: resource for arn, resource in self._tagged.items() if arn in still}
            self._without &= still
