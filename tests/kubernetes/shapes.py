"""Jobs and pods as the API server sends them, JSON, and what the adapter's pure parts make of them."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import msgspec

from reconciler.model import Condition, Observation
from reconciler_adapters.kubernetes import objects as k8s
from reconciler_adapters.kubernetes.meaning import judge
from reconciler_adapters.kubernetes.pods import PodSight, sight
from reconciler_adapters.kubernetes.resources import Wording

RUN = UUID("7a6b8e0e-5a54-4e0c-9a0e-0c3f6f0a1b2c")
ALIVE, STARTING, STOPPING, EXITED, UNKNOWN = (
    Condition.ALIVE,
    Condition.STARTING,
    Condition.STOPPING,
    Condition.EXITED,
    Condition.UNKNOWN,
)
NOW = "2026-11-22T10:00:00Z"
RUNNING = {"running": {"startedAt": NOW}}
STARTS = {"waiting": {"reason": "PodInitializing"}}
READY = {"PodScheduled": "True", "Initialized": "True", "ContainersReady": "True", "Ready": "True"}
Json = dict[str, Any]


def ended(code: int, reason: str | None = "Error", **more: Any) -> Json:
    return {"terminated": {"exitCode": code, "reason": reason, "startedAt": NOW, "finishedAt": NOW} | more}


def conditions(**changes: Any) -> list[Json]:
    """Of a pod that is ready; a value is a status or a whole condition."""
    found = READY | changes
    return [{"type": kind, **(it if isinstance(it, dict) else {"status": it})} for kind, it in found.items()]


def pod(
    phase: str | None = "Running",
    *,
    containers: dict[str, Json] | None = None,
    init: dict[str, Json] | None = None,
    policy: str = "Never",
    specs: dict[str, Json] | None = None,
    metadata: Json | None = None,
    **status: Any,
) -> PodSight:
    """A pod of Job "otter"; `containers` and `init` are their states by name, `specs` what more their specs say."""
    states = {"prefect-job": RUNNING} if containers is None else containers
    names = [*states, *(name for name in specs or {} if name not in states)]
    body = {
        "metadata": {
            "name": "otter-x",
            "namespace": "prefect",
            "uid": "pod-1",
            "creationTimestamp": NOW,
            "ownerReferences": [{"kind": "Job", "name": "otter", "uid": "job-1", "controller": True}],
        }
        | (metadata or {}),
        "spec": {
            "nodeName": "node-1",
            "restartPolicy": policy,
            "containers": [{"name": name} | (specs or {}).get(name, {}) for name in names or ["prefect-job"]],
        },
        "status": {
            "phase": phase,
            "conditions": conditions(),
            "containerStatuses": [each(name, state) for name, state in states.items()],
            "initContainerStatuses": [each(name, state) for name, state in (init or {}).items()],
        }
        | status,
    }
    return sight(msgspec.json.decode(json.dumps(body), type=k8s.Pod), RUN)


def each(name: str, state: Json) -> Json:
    return {"name": name, "restartCount": 0, "state": state, "lastState": {}}


def job(*, deleted: bool = False, limit: int | None = 0, finalizers: list[str] | None = None, **status: Any) -> k8s.Job:
    metadata: Json = {"name": "otter", "namespace": "prefect", "uid": "job-1", "creationTimestamp": NOW}
    metadata |= {"deletionTimestamp": NOW, "finalizers": finalizers or []} if deleted else {}
    spec = {"parallelism": 1} | ({} if limit is None else {"backoffLimit": limit}) | status.pop("spec", {})
    body = {"metadata": metadata, "spec": spec, "status": status}
    return msgspec.json.decode(json.dumps(body), type=k8s.Job)


def over(kind: str, reason: str = "BackoffLimitExceeded", status: str = "True", **more: Any) -> list[Json]:
    return [{"type": kind, "status": status, "reason": reason, "lastTransitionTime": NOW} | more]


def judged(one: k8s.Job, *pods: PodSight) -> Observation:
    return judge(one, pods, RUN, Wording())


GONE_BY_GC = {"status": "True", "reason": "DeletionByPodGC", "message": "PodGC: node no longer exists"}
LOST = conditions(Ready="False")
NAMES_MAIN: Json = {"annotations": {"kubectl.kubernetes.io/default-container": "main"}}
RULES = {"restartPolicy": "Never", "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In"}}]}
