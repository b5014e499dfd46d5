"""The cluster of `benchmarks.kubernetes`: live pods with their Jobs, and ended ones, in the sizes of a real cluster."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

LIVE, ENDED = 10_000, 5_000  # pods, and as many Jobs
HOME = "prefect"
START = datetime(2026, 1, 1, tzinfo=UTC)


def run_id(number: int) -> UUID:
    """Give the same ids in every process."""
    return uuid5(NAMESPACE_OID, str(number))


def name_of(number: int) -> str:
    """Give names that do not sort by whether their object has ended."""
    return f"{uuid5(NAMESPACE_OID, f'name {number}').hex[:10]}-otter-{number:05d}"


def objects() -> Iterator[dict[str, Any]]:
    """Every pod and Job, in the sizes of a real cluster: 4 to 6 KB a pod."""
    yield {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": HOME}}
    chance = random.Random(1)
    for number in range(LIVE + ENDED):
        job = _job(number, is_over=number >= LIVE)
        yield job
        yield _pod(job, number, chance, is_over=number >= LIVE)


def _labels(number: int) -> dict[str, str]:
    return {
        "prefect.io/flow-run-id": str(run_id(number)),
        "prefect.io/flow-run-name": f"stereotyped-otter-{number}",
        "prefect.io/flow-id": str(run_id(-1)),
        "prefect.io/flow-name": "nightly-report",
        "prefect.io/deployment-id": str(run_id(-2)),
        "prefect.io/deployment-name": "nightly",
        "prefect.io/version": "3.8.8",
        "prefect.io/work-pool-id": str(run_id(-3)),
        "prefect.io/work-pool-name": "k8s",
        "prefect.io/worker-name": "kubernetesworker-0f1e2d3c",
        "app.kubernetes.io/managed-by": "prefect",
        "app.kubernetes.io/part-of": "nightly-report",
    }


def _template(number: int) -> dict[str, Any]:
    env = [{"name": f"PREFECT__SETTING_{index}", "value": f"{index}" * 24} for index in range(10)]
    env += [{"name": "PREFECT__FLOW_RUN_ID", "value": str(run_id(number))}]
    secret = {"valueFrom": {"secretKeyRef": {"name": "prefect-api-key", "key": "value", "optional": False}}}
    container = {
        "name": "prefect-job",
        "image": "registry.example/flows/nightly-report:3.8.8-python3.11",
        "args": ["prefect", "flow-run", "execute"],
        "env": [*env, {"name": "PREFECT_API_KEY"} | secret],
        "resources": {"limits": {"cpu": "2", "memory": "2Gi"}, "requests": {"cpu": "500m", "memory": "512Mi"}},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/flow", "readOnly": True}],
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
    }
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "containers": [container],
        "dnsPolicy": "ClusterFirst",
        "securityContext": {},
    }
    spec |= {"volumes": [{"name": "config", "configMap": {"name": "flow-config", "defaultMode": 420}}]}
    return {"metadata": {"labels": _labels(number)}, "spec": spec}


def _job(number: int, *, is_over: bool) -> dict[str, Any]:
    uid, began = str(uuid5(NAMESPACE_OID, f"job {number}")), _time(number)
    metadata: dict[str, Any] = {"name": name_of(number), "namespace": HOME, "labels": _labels(number), "uid": uid}
    spec = {"backoffLimit": 0, "parallelism": 1, "completions": 1, "template": _template(number)}
    spec |= {"selector": {"matchLabels": {"controller-uid": uid}}, "suspend": False}
    done = {"type": "Complete", "status": "True", "lastProbeTime": began, "lastTransitionTime": began}
    status: dict[str, Any] = (
        {"succeeded": 1, "conditions": [done], "completionTime": began} if is_over else {"active": 1, "ready": 1}
    )
    metadata |= {"creationTimestamp": began}
    status |= {"startTime": began}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec, "status": status}


def _pod(job: dict[str, Any], number: int, chance: random.Random, *, is_over: bool) -> dict[str, Any]:
    meta, began = job["metadata"], job["metadata"]["creationTimestamp"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "uid": meta["uid"], "controller": True}
    labels = _labels(number) | {"job-name": meta["name"], "controller-uid": meta["uid"]}
    metadata = {"name": f"{meta['name']}-x7k2p", "namespace": HOME, "labels": labels, "creationTimestamp": began}
    metadata |= {"uid": str(uuid5(NAMESPACE_OID, f"pod {number}")), "ownerReferences": [owner]}
    metadata |= {"annotations": {"cni.example/address": "10.244.1.7/32", "note": "n" * chance.randrange(100, 1700)}}
    seconds = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
    away = [{"key": f"node.kubernetes.io/{what}"} | seconds for what in ("not-ready", "unreachable")]
    spec = job["spec"]["template"]["spec"] | {"nodeName": f"node-{number % 200}", "tolerations": away}
    spec |= {"serviceAccountName": "default", "schedulerName": "default-scheduler", "priority": 0}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": _status(began, is_over)}


def _status(began: str, is_over: bool) -> dict[str, Any]:  # noqa: FBT001
    kinds = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    state: dict[str, Any] = {"running": {"startedAt": began}}
    if is_over:
        state = {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": began, "finishedAt": began}}
    container = {"name": "prefect-job", "state": state, "lastState": {}, "ready": not is_over, "restartCount": 0}
    container |= {"image": "registry.example/flows/nightly-report:3.8.8-python3.11", "started": not is_over}
    container |= {"imageID": f"sha256:{'5d1c' * 16}", "containerID": f"containerd://{'0f1e' * 16}"}
    return {
        "phase": "Succeeded" if is_over else "Running",
        "conditions": [
            {"type": kind, "status": "True", "lastProbeTime": None, "lastTransitionTime": began} for kind in kinds
        ],
        "startTime": began,
        "hostIP": "10.0.0.11",
        "podIP": "10.244.1.7",
        "podIPs": [{"ip": "10.244.1.7"}],
        "qosClass": "Burstable",
        "containerStatuses": [container],
    }


def _time(number: int) -> str:
    return f"{START + timedelta(seconds=number):%Y-%m-%dT%H:%M:%SZ}"
