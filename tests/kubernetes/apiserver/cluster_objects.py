"""Bodies of Jobs and pods as prefect-kubernetes 0.8.0, the Job controller and a kubelet write them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

Object = dict[str, Any]
IMAGE = "prefecthq/prefect:3.8.8-python3.12"
RUN_LABEL = "prefect.io/flow-run-id"


def instant(when: datetime | None = None) -> str:
    return (when or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")


def run_labels(run_id: UUID | str, run_name: str = "wise-otter") -> dict[str, str]:
    """What the worker puts on the Job and on its pod template."""
    return {
        RUN_LABEL: str(run_id),
        "prefect.io/flow-run-name": run_name,
        "prefect.io/flow-id": "6f3c1d1e-5a55-4d0b-9f2f-0d8a4f2b6c11",
        "prefect.io/flow-name": "nightly-report",
        "prefect.io/deployment-id": "0b7e6a52-3d65-4f57-8b5f-6d2f8a1c9e33",
        "prefect.io/deployment-name": "nightly",
        "prefect.io/version": "3.8.8",
        "prefect.io/work-pool-id": "c0a1b2c3-1111-4222-8333-444455556666",
        "prefect.io/work-pool-name": "k8s",
        "prefect.io/worker-name": "KubernetesWorker-0f1e2d3c",
        "app.kubernetes.io/managed-by": "prefect",
        "app.kubernetes.io/part-of": "nightly-report",
        "app.kubernetes.io/name": "nightly",
        "app.kubernetes.io/version": "3.8.8",
    }


def job_body(
    labels: Mapping[str, str],
    *,
    containers: Iterable[str],
    backoff_limit: int,
    restart_policy: str,
    memory_limit: str | None,
    suspend: bool,
) -> Object:
    """Without its name; `suspend` since 1.21."""
    pod_spec = {"restartPolicy": restart_policy, "containers": [container(name, memory_limit) for name in containers]}
    template = {"metadata": {"labels": dict(labels)}, "spec": pod_spec}
    spec = {"backoffLimit": backoff_limit, "parallelism": 1, "completions": 1, "template": template}
    spec |= {"suspend": True} if suspend else {}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"labels": dict(labels)}, "spec": spec}


def container(name: str, memory_limit: str | None = None) -> Object:
    resources = {"limits": {"memory": memory_limit}} if memory_limit else {}
    env = [{"name": "PREFECT_API_URL", "value": "http://prefect-server:4200/api"}]
    return {
        "name": name,
        "image": IMAGE,
        "env": env,
        "args": ["prefect", "flow-run", "execute"],
        "resources": resources,
    }


def pod_body(job: Object, node: str | None) -> Object:
    """As the Job controller creates it, and already bound to the node."""
    meta, template = job["metadata"], job["spec"]["template"]
    owner = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    metadata = {
        "generateName": f"{meta['name']}-",
        "labels": dict(template["metadata"]["labels"]),
        "ownerReferences": [owner],
    }
    spec = dict(template["spec"]) | ({"nodeName": node} if node else {})
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def conditions(now: str, *, scheduled: bool, ready: bool, **more: Mapping[str, str]) -> list[Object]:
    """Of a pod; `more` are others: DisruptionTarget={"reason": ...}."""
    status = {"PodScheduled": scheduled, "Initialized": scheduled, "ContainersReady": ready, "Ready": ready}
    found = [
        {"type": kind, "status": str(true), "lastProbeTime": None, "lastTransitionTime": now}
        for kind, true in status.items()
        if scheduled or kind == "PodScheduled"
    ]
    return found + [{"type": kind, "status": "True", "lastTransitionTime": now} | dict(it) for kind, it in more.items()]


def container_status(pod: Object, name: str, state: Object, **more: Any) -> Object:
    """`state` as {"running": {...}}; `more`: restartCount, lastState."""
    running = "running" in state
    return {
        "name": name,
        "state": state,
        "lastState": {},
        "ready": running,
        "restartCount": 0,
        "image": IMAGE,
        "imageID": "docker.io/prefecthq/prefect@sha256:5d1c" if running or "terminated" in state else "",
        "containerID": f"containerd://{pod['metadata']['uid'].replace('-', '')}" if "waiting" not in state else "",
        "started": running,
    } | more


def running_status(pod: Object, phase: str = "Running") -> Object:
    """Of a bound pod whose containers all run; of an unbound or Pending one, before that."""
    now, bound = instant(), bool(pod["spec"].get("nodeName"))
    running = phase == "Running"
    status: Object = {"phase": phase, "conditions": conditions(now, scheduled=bound, ready=running)}
    if not bound:
        return status
    state = {"running": {"startedAt": now}} if running else {"waiting": {"reason": "ContainerCreating"}}
    statuses = [container_status(pod, each["name"], state) for each in pod["spec"]["containers"]]
    status |= {"startTime": now, "hostIP": "10.0.0.11", "containerStatuses": statuses}
    return status | ({"podIP": "10.244.1.7", "podIPs": [{"ip": "10.244.1.7"}]} if running else {})
