"""`reconcile` as a process, over a fake AWS and a fake Prefect at an address."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from tests.ecs.fake import REGION, FakeAws, FakeTask
from tests.fake_prefect import FakePrefect, stamp
from tests.rigs.processes import inherited_environment

PREFECT_KEY = "pnu_of-the-reconciler-itself"
QUICK = {"grace": "1s", "confirm_after": "1s", "scope_deadline": "3s", "mode": "settle"}


class PrefectOverHttp:
    """A fake Prefect server at an address. `fake` is what it knows."""

    def __init__(self) -> None:
        self.fake = FakePrefect()
        fake = self.fake

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(b"")

            def do_POST(self) -> None:
                self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

            def _answer(self, body: bytes) -> None:
                request = httpx.Request(self.command, f"http://prefect.test{self.path}", content=body)
                said = fake.answer(request)
                self.send_response_only(said.status_code)
                self.send_header("Date", said.headers["Date"])
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(said.content)))
                self.end_headers()
                self.wfile.write(said.content)

            def log_message(self, *_: object) -> None:
                """Stay quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/api"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def run(self, task: FakeTask | str | None, pool: str = "pool", worker_type: str | None = "ecs") -> str:
        """A flow run that has been Running for ten minutes. `worker_type`: by its label; None: without one."""
        pid = task.pid if isinstance(task, FakeTask) else task
        at = stamp(datetime.now(UTC) - timedelta(minutes=10))
        labels = {"prefect.worker.type": worker_type} if worker_type else {}
        more = {"id": str(task.run_id)} if isinstance(task, FakeTask) else {}
        run = self.fake.add(
            infrastructure_pid=pid, work_pool_name=pool, labels=labels, created=at, expected_start_time=at, **more
        )
        run["state"]["timestamp"] = at
        if more:
            old = next(key for key, row in self.fake.runs.items() if row is run)
            self.fake.runs[run["id"]] = self.fake.runs.pop(old)
            self.fake.history[run["id"]] = self.fake.history.pop(old)
        return str(run["id"])

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def scope(aws: FakeAws, mapping: str = 'work_pools = ["pool"]', **options: object) -> str:
    given = {"region": REGION, "endpoint_url": aws.url} | options
    table = ", ".join(f"{name} = {json.dumps(value)}" for name, value in given.items())
    return f'[[scopes]]\nname = "prod"\nadapter = "ecs"\n{mapping}\noptions = {{ {table} }}\n'


class Tool:
    """`reconcile`, run as a process."""

    def __init__(self, home: Path, prefect: PrefectOverHttp) -> None:
        self.home, self.prefect, self.took = home, prefect, 0.0
        self.variables: dict[str, str] = {}

    def __call__(self, *arguments: str, scopes: str) -> subprocess.CompletedProcess[str]:
        policy = "\n".join(f'{key} = "{value}"' for key, value in QUICK.items())
        file = self.home / "reconciler.toml"
        file.write_text(f'state_dir = "{self.home}/state"\n[policy]\n{policy}\n{scopes}')
        environment = inherited_environment(
            PREFECT_API_URL=self.prefect.url, PREFECT_HOME=str(self.home), PREFECT_API_KEY=PREFECT_KEY
        )
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "reconciler", "--config", str(file), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            stdin=subprocess.DEVNULL,
            env=environment | self.variables,
        )
        self.took = time.monotonic() - began
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def document(self, *arguments: str, scopes: str) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self("--json", *arguments, scopes=scopes).stdout)
        return said
