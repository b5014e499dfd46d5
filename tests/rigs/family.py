"""Flow runs that run other flows: a docker worker for them, and who is whose in what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.rigs.engine import Engine
from tests.rigs.polling import wait_until
from tests.rigs.prefect import SeededRun, call, read, seed_deployment
from tests.rigs.server import PrefectServer
from tests.rigs.worker import FLOWS, Worker, flow_container

FAMILY = FLOWS.parent / "family.py"


class FamilyWorker(Worker):
    """A docker worker whose flows may start others on the same pool, also without a deployment."""

    def __init__(self, server: PrefectServer, folder: Path, engine: Engine) -> None:
        super().__init__(server, folder, engine=engine, flows=FAMILY)
        self.shelf = folder / "shelf"  # what is sent to the pool without a deployment lies here
        self.shelf.mkdir()

    def start(self) -> FamilyWorker:
        super().start()
        steps: dict[str, object] = {
            "bundle_upload_step": {"upload": {}},
            "bundle_execution_step": {"prefect.bundles.execute": {}},
        }
        call(self.server.api_url, "PATCH", f"/work_pools/{self.pool}", {"storage_configuration": steps})
        return self

    @property
    def variables(self) -> dict[str, Any]:
        """Job variables: the container shares the shelf."""
        plain: dict[str, Any] = flow_container(self.server.venv, self.flows.parent)
        return plain | {"volumes": [*plain["volumes"], f"{self.shelf}:{self.shelf}"]}

    def deploy(self, flow: str) -> str:
        """Give the id of that flow's deployment."""
        step = {"prefect.deployments.steps.set_working_directory": {"directory": str(self.flows.parent)}}
        return seed_deployment(
            self.server.api_url,
            self.pool,
            self.type,
            name=flow,
            entrypoint=f"{self.flows.name}:{flow}",
            path=".",
            pull_steps=[step],
            job_variables=self.variables,
        )

    def submit(self, flow: str = "parent", **parameters: object) -> SeededRun:
        api = self.server.api_url
        row = call(api, "POST", f"/deployments/{self.deploy(flow)}/create_flow_run", {"parameters": parameters})
        return SeededRun(api, UUID(row["id"]), flow)

    def family(self, flow: str, subflows: Collection[str], tasks: Mapping[str, int], **parameters: object) -> Family:
        """Run it, and wait until the subflows of these names run, and there are so many task runs in each state."""
        family = Family(self.run(flow, **parameters))
        wait_until(lambda: family.is_up(subflows, tasks), f"{sorted(subflows)} run below {flow}", 120, 0.5)
        return family


@dataclass(frozen=True, slots=True)
class Family:
    """A flow run and all below it, as the server shows them now."""

    root: SeededRun

    def subflows(self) -> dict[str, SeededRun]:
        """All of them by name, each one behind its parent."""
        api = self.root.api
        return {row["name"]: SeededRun(api, UUID(row["id"]), row["name"]) for row in self._rows()}

    def members(self) -> dict[str, SeededRun]:
        """The root, and the subflows."""
        return {self.root.name: self.root, **self.subflows()}

    def is_up(self, subflows: Collection[str], tasks: Mapping[str, int]) -> bool:
        running = {row["name"] for row in self._rows() if row["state"]["type"] == "RUNNING"}
        return running == set(subflows) and Counter(task.state for task in self.task_runs()) == tasks

    def task_runs(self) -> list[TaskRunRow]:
        ids = [str(run.id) for run in self.members().values()]
        rows = call(self.root.api, "POST", "/task_runs/filter", {"flow_runs": {"id": {"any_": ids}}})
        return [TaskRunRow.of(self.root.api, row) for row in rows]

    def task_run(self, of: str, name: str) -> TaskRunRow:
        """The one of that name in the flow run of that name."""
        flow_run_id = self.members()[of].id
        (found,) = [task for task in self.task_runs() if (task.flow_run_id, task.name) == (flow_run_id, name)]
        return found

    def placeholder(self, subflow: SeededRun) -> TaskRunRow:
        """The task run that stands for it in its parent."""
        (found,) = [task for task in self.task_runs() if task.child_id == subflow.id]
        return found

    def states_of(self, runs: Mapping[str, SeededRun]) -> dict[str, UUID]:
        """The ids of all states of these: theirs, those of their task runs, and of what stands for them."""
        found = {name: UUID(state(run)["id"]) for name, run in runs.items()}
        for task in self.task_runs():
            for name, run in runs.items():
                if run.id in (task.flow_run_id, task.child_id):
                    found[f"{name}: {task.name}"] = task.state_id
        return found

    def tell(self, died: datetime) -> None:
        """Print what became of it, with the seconds since the death."""
        names = {run.id: run.name for run in self.members().values()}
        told = [
            (task.since, f"task run {names[task.flow_run_id]}/{task.name}: {task.told}") for task in self.task_runs()
        ]
        for run in self.members().values():
            now = state(run)
            at = datetime.fromisoformat(now["timestamp"])
            told.append((at, f"flow run {run.name}: {now['type']}: {now['message']}"))
        for at, what in sorted(told):
            print(f"{(at - died).total_seconds():+7.2f} s  {what}")

    def _rows(self) -> Iterator[Mapping[str, Any]]:
        above = [str(self.root.id)]
        while above:
            body = {"flow_runs": {"parent_flow_run_id": {"any_": above}}}
            rows = call(self.root.api, "POST", "/flow_runs/filter", body)
            yield from rows
            above = [row["id"] for row in rows]


@dataclass(frozen=True, slots=True)
class TaskRunRow:
    """A task run as the server gives it."""

    api: str
    id: UUID
    name: str
    flow_run_id: UUID
    state: str
    state_id: UUID
    message: str | None
    since: datetime
    child_id: UUID | None  # the subflow that it stands for

    @classmethod
    def of(cls, api: str, row: Mapping[str, Any]) -> TaskRunRow:
        state = row["state"]
        child = state["state_details"]["child_flow_run_id"]
        return cls(
            api=api,
            id=UUID(row["id"]),
            name=row["name"],
            flow_run_id=UUID(row["flow_run_id"]),
            state=state["type"],
            state_id=UUID(state["id"]),
            message=state["message"],
            since=datetime.fromisoformat(state["timestamp"]),
            child_id=UUID(child) if child else None,
        )

    @property
    def told(self) -> str:
        return f"{self.state}: {self.message}"

    def history(self) -> list[str]:
        """The types of its states, oldest first."""
        rows = call(self.api, "GET", f"/task_run_states/?task_run_id={self.id}")
        return [row["type"] for row in sorted(rows, key=lambda row: row["timestamp"])]


def state(run: SeededRun) -> dict[str, Any]:
    """The run's state, as the server gives it."""
    found: dict[str, Any] = read(run)["state"]
    return found
