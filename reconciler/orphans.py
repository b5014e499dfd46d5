"""Live resources of flow runs that have ended: found and told, never touched."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from reconciler.clock import since_boot
from reconciler.model import ClockOffset, FlowRun, Resource, RunId
from reconciler.plan import Orphan, Policy
from reconciler.words import moment, span

Reread = Callable[[Collection[RunId]], Mapping[RunId, FlowRun]]

NEVER_REMOVED = "nothing is ever removed by prefect-reconciler"
_MOST = 400  # read in one pass: two pages
_TOLD = 1000  # of one scope


@dataclass
class Orphans:
    """What is known of the flow runs behind strangers. Bounded by the number of strangers."""

    _ended: dict[RunId, FlowRun] = field(default_factory=dict)  # the terminal ones, as last read
    _asked: dict[RunId, float] = field(default_factory=dict)  # when, of `since_boot()`

    def told(
        self,
        strangers: Mapping[str, Sequence[Resource]],
        reread: Reread,
        server_clock: ClockOffset,
        now: datetime,
        policy: Policy,
        subflows: Mapping[RunId, int] | None = None,
    ) -> dict[str, tuple[Orphan, ...]]:
        """Give the orphans of each scope, those whose run ended first before the others. `now` is ours.

        `strangers` are live, and their runs are not in flight; `subflows` of these may be: how many, by root. A run
        that ended less than `quiet` ago is not told: its container needs a moment to end, too. Nor is one that this
        server does not know: it is another server's, or was deleted. Raises what `reread` raises.
        """
        run_ids = {resource.run_id for resources in strangers.values() for resource in resources}
        self._ended = {run_id: run for run_id, run in self._ended.items() if run_id in run_ids}
        self._asked = {run_id: at for run_id, at in self._asked.items() if run_id in run_ids}
        self._read(self._due(run_ids), reread)
        since = {run_id: server_clock.to_ours(run.state_since) for run_id, run in self._ended.items()}
        over = {run_id for run_id, ended in since.items() if now - ended > policy.quiet}
        found = {
            scope: [
                Orphan(
                    resource=each,
                    run=self._ended[each.run_id],
                    since=since[each.run_id],
                    subflows=(subflows or {}).get(each.run_id, 0),
                )
                for each in resources
                if each.run_id in over
            ]
            for scope, resources in strangers.items()
        }
        return {scope: tuple(sorted(orphans, key=_age)[:_TOLD]) for scope, orphans in found.items()}

    def _due(self, run_ids: Collection[RunId]) -> list[RunId]:
        """Those not read for longest, by turns."""
        return sorted(run_ids, key=lambda run_id: (self._asked.get(run_id, -math.inf), run_id))[:_MOST]

    def _read(self, due: Collection[RunId], reread: Reread) -> None:
        if not due:
            return
        self._asked |= dict.fromkeys(due, since_boot())
        rows = reread(due)
        for run_id in due:
            row = rows.get(run_id)
            if row is not None and row.state_type.is_terminal:
                self._ended[run_id] = row
            else:
                self._ended.pop(run_id, None)


def orphan_sentence(scope: str, orphan: Orphan, now: datetime) -> str:
    """Write what lives on, whose run ended when, and the command for a person."""
    run, resource = orphan.run, orphan.resource
    ended = f"{run.state_name} since {moment(orphan.since, now)} ({span(now - orphan.since)})"
    remedy = f"; remove it with: {resource.removal}" if resource.removal else ""
    if orphan.subflows:
        are = "1 subflow of it is" if orphan.subflows == 1 else f"{orphan.subflows} subflows of it are"
        remedy = f"; {are} in flight, perhaps alive in there: do not remove it unseen"
    return f"{scope}: {resource.title} is alive; flow run {run.id} ({run.name}) is {ended}{remedy}"


def oldest_first(orphans: Mapping[str, Sequence[Orphan]]) -> list[tuple[str, Orphan]]:
    """Put the orphans of all scopes in one row."""
    rows = [(scope, orphan) for scope, many in orphans.items() for orphan in many]
    return sorted(rows, key=lambda row: (*_age(row[1]), row[0]))


def _age(orphan: Orphan) -> tuple[datetime, str]:
    return orphan.since, orphan.resource.id
