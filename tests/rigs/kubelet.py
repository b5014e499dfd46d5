"""Job controller, scheduler and kubelet of one node: every Job's command really runs, as a process on this host."""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from uuid import UUID

import httpx
import psutil

from tests.kubernetes.apiserver.cluster import Cluster
from tests.kubernetes.apiserver.cluster_objects import RUN_LABEL, Object, instant, running_status
from tests.kubernetes.apiserver.fake_resources import JOBS
from tests.kubernetes.apiserver.server import ApiServer
from tests.rigs.polling import wait_until
from tests.rigs.processes import Program, inherited_environment

NODE = "node-1"
_POLL = 0.2  # seconds
_CALL = 5.0  # seconds; a frozen API server is asked again
_SIGNALLED = 128  # exit codes above are this and the signal's number


@dataclass(frozen=True, slots=True)
class End:
    """What is reported of a container's end, if it is not simply what it was."""

    reason: str | None = None
    exit_code: int | None = None
    evicted: bool = False


@dataclass(slots=True)
class Try:
    """One pod of a Job, and its process."""

    job: Object
    pod: Object
    program: Program
    failed: int  # tries before this one
    end: End = field(default_factory=End)
    over: bool = False  # the Job has its condition Complete or Failed


class Kubelet:
    """`with Kubelet(server, venv, folder) as kubelet:` runs the Jobs of flow runs as they come, all on the node NODE.

    A container's image is this host: it gets the pod template's command and environment, `venv`'s programs on its PATH
    and a working directory in `folder`. A Job whose try failed gets its next pod at once, without any back-off.
    """

    def __init__(self, server: ApiServer, venv: Path, folder: Path) -> None:
        self.venv = venv
        self.folder = folder
        self._cluster = Cluster(server)
        self._cluster.http.timeout = httpx.Timeout(_CALL)
        self._tries: dict[str, Try] = {}  # by flow run id
        self._seen: set[str] = set()  # UIDs of Jobs
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._reporting = True
        self._thread = threading.Thread(target=self._work, name="kubelet")

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._cluster.node(NODE)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop, and kill every container."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        for one in self._tries.values():
            kill_tree(one.program)
        self._cluster.close()

    # What happens to containers

    def job_of(self, run_id: UUID) -> Object:
        """As it was when its present pod started."""
        return self._try_of(run_id).job

    def pod_of(self, run_id: UUID) -> Object:
        """As it was when it started."""
        return self._try_of(run_id).pod

    def kill(self, run_id: UUID, reason: str | None = "OOMKilled", exit_code: int | None = None) -> None:
        """SIGKILL the whole container. It is reported with `reason`, and with `exit_code` instead of 137 if given."""
        self._end(run_id, End(reason, exit_code))

    def evict(self, run_id: UUID) -> None:
        """SIGKILL, as past a hard eviction threshold, and reported like that."""
        self._end(run_id, End(evicted=True))

    def remove(self, run_id: UUID) -> None:
        """What `kubectl delete job --force` leaves: neither process nor pod nor Job."""
        with self._lock:
            gone = self._tries.pop(str(run_id))
            kill_tree(gone.program)
            self._cluster.delete(gone.job)
            self._cluster.delete(gone.pod, grace=0)

    def stop_reporting(self) -> None:
        """The node is not heard of any more: its processes run on; the node controller marks the node and its pods."""
        with self._lock:
            self._reporting = False
            self._cluster.node(NODE, "Unknown")
            for one in self._tries.values():
                if not one.over:
                    self._cluster.pod_node_lost(one.pod)

    def _end(self, run_id: UUID, end: End) -> None:
        """Kill, and wait until it is reported."""
        with self._lock:
            one = self._tries[str(run_id)]
            one.end = end
            kill_tree(one.program)
        reported = f"the end of a container of flow run {run_id} reported"
        wait_until(lambda: one.over or self._try_of(run_id) is not one, reported, 30)

    def _try_of(self, run_id: UUID) -> Try:
        with self._lock:
            return self._tries[str(run_id)]

    # What controllers and kubelets do by themselves

    def _work(self) -> None:
        while not self._stop.wait(_POLL):
            with self._lock, contextlib.suppress(httpx.TransportError):
                if self._reporting:
                    self._start_new()
                    self._report_ends()

    def _start_new(self) -> None:
        answer = self._cluster.http.get(JOBS.path(), params={"labelSelector": RUN_LABEL}).raise_for_status()
        for item in answer.json()["items"]:
            uid, run_id = item["metadata"]["uid"], item["metadata"]["labels"][RUN_LABEL]
            if uid not in self._seen:
                self._seen.add(uid)
                self._tries[run_id] = self._start({"apiVersion": "batch/v1", "kind": "Job"} | item)

    def _start(self, job: Object, failed: int = 0) -> Try:
        """Make the Job's next pod, and start its container."""
        pod = self._cluster.pod(job, phase="Pending", node=NODE)
        job = self._cluster.set_job(job, startTime=instant(), active=1, failed=failed or None)
        program = self._container(job, self.folder / pod["metadata"]["name"])
        pod = self._cluster.set_pod(pod, **running_status(pod))
        return Try(job, pod, program, failed)

    def _container(self, job: Object, folder: Path) -> Program:
        container = job["spec"]["template"]["spec"]["containers"][0]
        given = {one["name"]: one["value"] for one in container.get("env", []) if "value" in one}
        path = f"{self.venv / 'bin'}{os.pathsep}{os.environ['PATH']}"
        command = [*container.get("command", []), *container.get("args", [])]
        folder.mkdir()
        return Program(command, folder / "log", inherited_environment(PATH=path) | given, cwd=folder)

    def _report_ends(self) -> None:
        for run_id, one in self._tries.items():
            if one.over or one.program.running:
                continue
            failed = one.failed + 1
            if self._report_pod(one):
                self._cluster.job_complete(one.job)
                one.over = True
            elif failed > one.job["spec"]["backoffLimit"]:
                self._cluster.job_failed(one.job, failed=failed)
                one.over = True
            else:
                self._tries[run_id] = self._start(one.job, failed)

    def _report_pod(self, one: Try) -> bool:
        """Whether it succeeded."""
        if one.end.evicted:
            self._cluster.pod_evicted(one.pod)
            return False
        code = one.program.wait(0)
        code = _SIGNALLED - code if code < 0 else code
        code = code if one.end.exit_code is None else one.end.exit_code
        reason = one.end.reason or ("Error" if code else "Completed")
        self._cluster.pod_terminated(one.pod, code, reason, phase="Failed" if code else "Succeeded")
        return code == 0


def kill_tree(program: Program) -> None:
    """SIGKILL a container: process 1 first, so that it reports of nobody, then what came of it."""
    family = []
    with contextlib.suppress(psutil.NoSuchProcess):
        first = psutil.Process(program.pid)
        family = [first, *first.children(recursive=True)]
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    program.wait(10)
