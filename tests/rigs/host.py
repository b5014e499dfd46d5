"""This machine as a host that runs flows, and the real commands asked about it."""

from __future__ import annotations

import os
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.rigs.polling import wait_until
from tests.rigs.prefect import SeededRun, call, seed_run, set_state
from tests.rigs.reconcile import QUICK, Pass, Reconcile, process_scope
from tests.rigs.server import PrefectServer

_FRAME = "\N{BOX DRAWINGS LIGHT VERTICAL}"


class Host:
    """Runs of a work pool of their own, each with a real process. `end` it."""

    def __init__(self, api: str, folder: Path) -> None:
        self.api, self.folder = api, folder
        self.state_dir = folder / "state"
        self.pool = f"pool-{uuid.uuid4().hex[:8]}"
        self._processes: dict[UUID, subprocess.Popen[bytes]] = {}

    def start(self, *names: str, pool: str | None = None) -> list[SeededRun]:
        """Runs that are RUNNING, reported as Prefect's client does: with transition ids."""
        return [self._start(name, pool or self.pool) for name in names]

    def _start(self, name: str, pool: str) -> SeededRun:
        run = seed_run(self.api, state="PENDING", work_pool=pool, name=name)
        environment = {"PATH": os.environ["PATH"], "PREFECT__FLOW_RUN_ID": str(run.id)}
        process = self._processes[run.id] = subprocess.Popen(["sleep", "600"], env=environment, start_new_session=True)
        call(self.api, "PATCH", f"/flow_runs/{run.id}", {"infrastructure_pid": str(process.pid)})
        set_state(run, "RUNNING", transition_id=str(uuid.uuid4()))
        return run

    def kill(self, *runs: SeededRun) -> None:
        for process in [self._processes[run.id] for run in runs]:
            process.kill()
            process.wait(10)

    def end(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait(10)

    def reconcile(self, *more: str, scopes: tuple[str, ...] = (), **policy: str) -> Reconcile:
        """Write the configuration anew; what was seen under another one is remembered. `more` goes into the scope."""
        scopes = scopes or (process_scope(self.pool) + "".join(f"{line}\n" for line in more),)
        return Reconcile(self.api, self.folder, *scopes, **(QUICK | policy))


@dataclass(frozen=True, slots=True)
class Judged:
    """What was found of some runs. `last` is the pass in which all that were left could be judged."""

    rows: dict[UUID, dict[str, Any]]
    last: Pass

    def of(self, run: SeededRun) -> tuple[str, str | None, str | None]:
        """Verdict, guard, outcome."""
        row = self.rows[run.id]
        return row["verdict"], row["guard"], row["outcome"]

    def why(self, run: SeededRun) -> str:
        return str(self.rows[run.id]["reason"])


def judged(reconcile: Reconcile, *arguments: str, runs: list[SeededRun]) -> Judged:
    """Pass until none of these runs is UNKNOWN: any process of this machine that begins just now may be theirs.

    Nothing but that is passed over.
    """
    rows: dict[UUID, dict[str, Any]] = {}

    def try_it() -> Pass | None:
        done = reconcile(*arguments)
        listed = {row["id"]: row for row in done.document["runs"]}
        rows.update({run.id: listed[str(run.id)] for run in runs if str(run.id) in listed})
        return None if any(row["verdict"] == "UNKNOWN" for row in rows.values()) else done

    last = wait_until(try_it, "no run is UNKNOWN", 60)
    assert last is not None
    return Judged(rows, last)


def explained(reconcile: Reconcile, run: SeededRun) -> str:
    """What `reconcile explain` says of a run, once it can be judged."""

    def try_it() -> str | None:
        told = screen(reconcile("explain", str(run.id), document=False))
        return None if "verdict UNKNOWN" in told else told

    told = wait_until(try_it, "it is not UNKNOWN", 60)
    assert told
    return told


def explained_in_json(reconcile: Reconcile, run: SeededRun) -> dict[str, Any]:
    """The same as a document."""

    def try_it() -> dict[str, Any] | None:
        document = reconcile("explain", str(run.id)).document
        return None if (document["decision"] or {}).get("verdict") == "UNKNOWN" else document

    told = wait_until(try_it, "it is not UNKNOWN", 60)
    assert told
    return told


def screen(done: Pass, code: int = 0) -> str:
    """One screen, its folds taken out."""
    assert done.code == code, done.out + done.err
    lines = done.out.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
    return " ".join(done.out.split())


def refused(done: Pass, *words: str) -> None:
    """Exit code 2, and one sentence (in typer's frame)."""
    told = " ".join(done.err.replace(_FRAME, " ").split())
    assert (done.code, done.out) == (2, ""), done.out + done.err
    assert all(word in told for word in words), told
    assert "Traceback" not in told


def by_the_engine(server: PrefectServer, run: SeededRun, state: str) -> None:
    """Report it as a flow's own process does: through Prefect's client."""
    code = (
        "from prefect import get_client\nfrom prefect.states import *\n"
        f"with get_client(sync_client=True) as client:\n    client.set_flow_run_state('{run.id}', {state})\n"
    )
    subprocess.run([str(server.venv / "bin" / "python"), "-c", code], env=server.environment, check=True)
