"""A worker and its flow are killed; the run stays Running for ever; `reconcile` settles it. Run it with `make demo`.

Everything is real: a Prefect server with SQLite on the loopback, a process worker, a flow run and SIGKILL. It all lives
in one temporary folder and is gone afterwards. The server and the worker are the ones that the tests use (tests/rigs).
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tests.rigs.prefect import SeededRun, logs_of, read
from tests.rigs.processes import inherited_environment
from tests.rigs.server import CHECKOUT, PrefectServer, prefect_venv
from tests.rigs.worker import Worker, alive, flow_process, kill_flow

RECONCILE = Path(sys.executable).with_name("reconcile")
FLOW = Path(__file__).with_name("demo_flow.py")
GRACE = 30.0  # the default of [policy] grace, in seconds


class NotShown(Exception):
    """A step did not show what it must."""


def main() -> int:
    if not sys.platform.startswith("linux"):
        print("The demonstration needs Linux: it finds the flow's process in /proc.")
        return 1
    venv = prefect_venv()
    if venv is None:
        print("Prefect is not installed in .venvs/prefect; `make setup` installs it.")
        return 1
    started = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="reconciler-demo-") as folder:
            demonstrate(venv, Path(folder))
    except NotShown as problem:
        print(f"\nFAILED: {problem}")
        return 1
    print(f"\nAll was as it must be, in {time.monotonic() - started:.0f} s. Server, worker and folder are gone.")
    return 0


def demonstrate(venv: Path, folder: Path) -> None:
    with a_server(venv, folder) as server, a_worker(server, folder) as worker:
        run = a_running_flow(worker)
        config = a_configuration(server, folder)
        while_all_is_well(config)
        kill_both(worker, run)
        nobody_tells_prefect(run)
        wait_out_the_grace(run)
        look_first(config, run)
        settle(config, run)
        what_prefect_says_now(run)


@contextmanager
def a_server(venv: Path, folder: Path) -> Iterator[PrefectServer]:
    say("A Prefect server starts; this takes some seconds.")
    server = PrefectServer(venv, folder)
    show_command(server.command)
    with server:
        show(f"healthy at {server.api_url}")
        yield server


@contextmanager
def a_worker(server: PrefectServer, folder: Path) -> Iterator[Worker]:
    say("A process worker starts and serves the work pool 'demo'.")
    worker = Worker(server, folder, pool="demo", flows=FLOW)
    show_command(worker.command)
    with worker:
        show(worker.log())
        yield worker


def a_running_flow(worker: Worker) -> SeededRun:
    say("An hour of work is deployed and started; the worker fetches it.")
    run = worker.run("nightly_report")
    show(worker.log())
    show(f"flow run '{run.name}' is {state(run)}, in process {flow_process(run).pid}")
    return run


def a_configuration(server: PrefectServer, folder: Path) -> Path:
    say("The reconciler needs to know one thing: this host runs the work of the pool 'demo'.")
    config = folder / "reconciler.toml"
    config.write_text(f"""\
state_dir = "{folder / "state"}"
[api]
url = "{server.api_url}"
[[scopes]]
name = "this-host"
adapter = "process"
work_pools = ["demo"]
""")
    show(config.read_text())
    return config


def while_all_is_well(config: Path) -> None:
    say("While all is well, a dry run finds the flow healthy, and remembers that it saw its process here.")
    must_show(reconcile(config, "--dry-run"), "1 healthy")


def kill_both(worker: Worker, run: SeededRun) -> None:
    process = flow_process(run)
    say("Now the worker and the flow's process are killed, as an out-of-memory kill or a crash of the host would do.")
    worker.kill()
    kill_flow(run)
    show(f"SIGKILL to the worker, process {worker.pid}, and to the flow, process {process.pid}")
    if alive(process):
        raise NotShown(f"process {process.pid} survived SIGKILL")


def nobody_tells_prefect(run: SeededRun) -> None:
    say("Nobody is left to tell Prefect. To the server, the run goes on, and would for ever:")
    show_state(run)
    must_show(state(run), "Running")


def wait_out_the_grace(run: SeededRun) -> None:
    since = datetime.fromisoformat(read(run)["state"]["timestamp"])
    left = GRACE + 1 - (datetime.now(UTC) - since).total_seconds()
    if left > 0:
        say(f"No run is judged within {GRACE:g} s of its last state change (the policy's grace): {left:.0f} s to wait.")
        time.sleep(left)


def look_first(config: Path, run: SeededRun) -> None:
    say("A dry run says what would be done. It looks twice, 10 s apart (confirm_after), and writes nothing.")
    output = reconcile(config, "--dry-run")
    must_show(output, "ZOMBIE")
    must_show(output, str(run.id))
    must_show(state(run), "Running")


def settle(config: Path, run: SeededRun) -> None:
    say("And now without --dry-run.")
    must_show(reconcile(config), str(run.id))


def what_prefect_says_now(run: SeededRun) -> None:
    say("To the server, the run has crashed now, and both its state and its log say why:")
    show_state(run)
    must_show(state(run), "Crashed")
    told = [line for line in logs_of(run) if line["name"] == "prefect.reconciler"]
    for line in told:
        show(f"{line['timestamp'][:19]}  {line['name']}  {line['message']}")
    if not told:
        raise NotShown("the run's log has no line of the logger prefect.reconciler")


def reconcile(config: Path, *options: str) -> str:
    """Run the real command, show its real output, and give its stdout."""
    command = [str(RECONCILE), *options, "--config", str(config), "--log-level", "warning"]
    show_command(["reconcile", *command[1:]])
    done = subprocess.run(
        command, env=inherited_environment(), capture_output=True, text=True, check=False, timeout=120
    )
    show(done.stdout + done.stderr)
    if done.returncode:
        raise NotShown(f"reconcile ended with exit code {done.returncode}")
    return done.stdout


def state(run: SeededRun) -> str:
    return str(read(run)["state"]["name"])


def show_state(run: SeededRun) -> None:
    current = read(run)["state"]
    show(f"GET {run.api}/flow_runs/{run.id}")
    show(f"name: {run.name}\nstate: {current['name']}\nmessage: {current['message'] or '(none)'}")


def must_show(output: str, wanted: str) -> None:
    if wanted not in output:
        raise NotShown(f"expected to read {wanted!r}")


def say(text: str) -> None:
    print(f"\n{text}", flush=True)


def show_command(command: list[str]) -> None:
    print(f"  $ {shlex.join(command).replace(f'{CHECKOUT}/', '')}", flush=True)


def show(output: str) -> None:
    for line in output.strip().splitlines():
        print(f"    {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
