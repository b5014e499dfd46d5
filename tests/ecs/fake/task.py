"""One task, and what a test lets happen to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from tests.ecs.fake.task_shape import Body, prefect_environment, prefect_tags, stamp, tag_list

STARTING = ("PROVISIONING", "PENDING", "ACTIVATING")
STOPPING = ("DEACTIVATING", "STOPPING", "DEPROVISIONING")
_EXITED = "Essential container in task exited"


class FakeTask:
    """`body` is what ECS answers of it. Every change counts `version` up, as ECS does. `ago` is in seconds."""

    def __init__(self, body: Body, clock: Callable[[], datetime], lock: AbstractContextManager[Any]) -> None:
        self.body, self._clock, self._lock = body, clock, lock
        self.stopped: datetime | None = None
        self.created = datetime.fromtimestamp(body["createdAt"], clock().tzinfo)
        self.is_forgotten = False

    @property
    def arn(self) -> str:
        return str(self.body["taskArn"])

    @property
    def id(self) -> str:
        return self.arn.rpartition("/")[2]

    @property
    def cluster_arn(self) -> str:
        return str(self.body["clusterArn"])

    @property
    def run_id(self) -> UUID | None:
        """The run that its environment names, as Prefect's worker sets it."""
        said = self.body["overrides"]["containerOverrides"][0].get("environment", [])
        found = [pair["value"] for pair in said if pair["name"] == "PREFECT__FLOW_RUN_ID"]
        return UUID(found[0]) if found else None

    @property
    def pid(self) -> str:
        """As the ECS worker writes it where the pool names the cluster; without: `f"{cluster_arn}::{arn}"`."""
        return f"{self.cluster_arn.rpartition('/')[2]}::{self.arn}"

    def starting(self, phase: str = "PROVISIONING") -> FakeTask:
        """Let it be in that phase of its start."""
        assert phase in STARTING
        self._drop("pullStartedAt", "pullStoppedAt", "startedAt")
        return self._become(phase, "PENDING")

    def run(self) -> FakeTask:
        """Let it run: it was pulled and started half a minute after its creation, if that is past."""
        for attachment in self.body["attachments"]:
            attachment["status"] = "ATTACHED"
        for name, seconds in {"connectivityAt": 4, "pullStartedAt": 9, "pullStoppedAt": 25, "startedAt": 30}.items():
            self.body[name] = stamp(min(self._clock(), self.created + timedelta(seconds=seconds)))
        return self._become("RUNNING", "RUNNING")

    def notice(self, stop_code: str = "SpotInterruption", reason: str = "Your Spot Task was interrupted.") -> FakeTask:
        """It runs, and will be stopped in two minutes."""
        return self._ends(stop_code, reason)._become(str(self.body["lastStatus"]))

    def stopping(
        self, phase: str = "DEACTIVATING", stop_code: str | None = None, reason: str | None = None
    ) -> FakeTask:
        """Let it be in that phase of its end. Its containers have stopped once it is DEPROVISIONING."""
        assert phase in STOPPING
        self._ends(stop_code, reason)
        if phase == "DEPROVISIONING":
            self.body.setdefault("executionStoppedAt", stamp(self._clock()))
        return self._become(phase, "STOPPED" if phase == "DEPROVISIONING" else None)

    def stop(
        self,
        stop_code: str | None = None,
        reason: str | None = None,
        exits: Mapping[str, int | str] | None = None,
        reasons: Mapping[str, int | str] | None = None,
        ago: float = 0,
    ) -> FakeTask:
        """Let it have stopped, for the reason that was noticed before if none is given: a container's end by default.

        A container that is not in `exits` has no exit code.
        """
        self.stopped = self._clock() - timedelta(seconds=ago)
        self._ends(stop_code, reason, self.stopped)
        for container in self.body["containers"]:
            for key, said in (("exitCode", exits), ("reason", reasons)):
                if said and container["name"] in said:
                    container[key] = said[container["name"]]
        if "startedAt" in self.body:
            self.body.setdefault("executionStoppedAt", stamp(self.stopped))
        self.body["stoppedAt"] = stamp(self.stopped)
        for attachment in self.body["attachments"]:
            attachment["status"] = "DELETED"
        return self._become("STOPPED", "STOPPED")

    def fail_to_start(
        self, reason: str, container_reasons: Mapping[str, int | str] | None = None, ago: float = 0
    ) -> FakeTask:
        """Let it never have run. Without reasons of containers it has none: nothing was placed."""
        self._drop("startedAt", "pullStartedAt", "pullStoppedAt", "executionStoppedAt")
        if not container_reasons:
            self.body["containers"] = []
        return self.stop("TaskFailedToStart", reason, reasons=container_reasons, ago=ago)

    def stop_request(self, reason: str | None) -> None:
        """StopTask: its tags are deleted at once; it has yet to stop."""
        if "stopCode" not in self.body:
            self._ends("UserInitiated", reason or "Task stopped by user")
        self.untag()

    def carry(self, run_id: UUID) -> None:
        """The same ARN carries another run's id."""
        with self._lock:
            self.body["tags"] = tag_list(prefect_tags(run_id))
            self.body["overrides"]["containerOverrides"][0]["environment"] = prefect_environment(run_id)

    def untag(self) -> None:
        with self._lock:
            self.body["tags"] = []

    def forget(self) -> None:
        """ECS knows it no more."""
        self.is_forgotten = True

    def _ends(self, stop_code: str | None, reason: str | None, since: datetime | None = None) -> FakeTask:
        with self._lock:
            why = {"stopCode": stop_code or self.body.get("stopCode", "EssentialContainerExited")}
            why |= {"stoppedReason": reason or self.body.get("stoppedReason", _EXITED)}
            self.body |= {"desiredStatus": "STOPPED"} | why
            self.body.setdefault("stoppingAt", stamp(since or self._clock()))
        return self

    def _drop(self, *names: str) -> None:
        with self._lock:
            for name in names:
                self.body.pop(name, None)

    def _become(self, status: str, containers: str | None = None) -> FakeTask:
        with self._lock:
            self.body["lastStatus"] = status
            self.body["version"] += 1
            for container in self.body["containers"] if containers else ():
                container["lastStatus"] = containers
        return self
