"""What the API server itself adds to a new object (seen on 1.20.2; the batch.kubernetes.io/ labels since 1.27)."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from tests.kubernetes.apiserver.fake_answers import invalid
from tests.kubernetes.apiserver.fake_resources import JOBS, NAMESPACES, PODS, Resource

LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # of generated names: no vowels, no words
Object = dict[str, Any]


def instant(later: float = 0) -> str:
    return (datetime.now(UTC) + timedelta(seconds=later)).strftime("%Y-%m-%dT%H:%M:%SZ")


def complete(resource: Resource, namespace: str | None, obj: Object) -> Object:
    """The object as it is stored at its creation. Raises Refused (422)."""
    given = obj.get("metadata") or {}
    name = given.get("name") or ""
    if not name and not given.get("generateName"):
        raise invalid(resource, "", "metadata.name", "name or generateName is required")
    system = {
        "name": name or given["generateName"] + "".join(random.choices(LETTERS, k=5)),
        "uid": str(uuid4()),
        "creationTimestamp": instant(),
    }
    system |= {"namespace": namespace} if namespace else {}
    kept = {
        key: value for key, value in given.items() if key not in {"deletionTimestamp", "deletionGracePeriodSeconds"}
    }
    new = {"kind": resource.kind, "apiVersion": resource.api_version} | obj | {"metadata": kept | system}
    if resource is JOBS:
        _complete_job(new)
    elif resource is PODS:
        new["spec"] = _pod_spec({"restartPolicy": "Always"} | (new.get("spec") or {}))
        new["status"] = {"phase": "Pending", "qosClass": "BestEffort"}
    elif resource is NAMESPACES:
        new |= {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}
    elif resource.subresources:
        new |= {"spec": new.get("spec") or {}, "status": new.get("status") or {}}
    return new


def _complete_job(job: Object) -> None:
    meta, spec = job["metadata"], job.get("spec") or {}
    template = spec.get("template") or {}
    pod_spec = template.get("spec") or {}
    if pod_spec.get("restartPolicy") not in {"Never", "OnFailure"}:
        problem = 'valid values: "OnFailure", "Never"'
        raise invalid(JOBS, meta["name"], "spec.template.spec.restartPolicy", problem)
    own = {"controller-uid": meta["uid"], "job-name": meta["name"]}
    own |= {f"batch.kubernetes.io/{key}": value for key, value in own.items()}
    template_meta = template.get("metadata") or {}
    labels = (template_meta.get("labels") or {}) | own
    template = template | {"metadata": template_meta | {"labels": labels}, "spec": _pod_spec(pod_spec)}
    selector = {"matchLabels": {"controller-uid": meta["uid"]}}
    defaults = {"parallelism": 1, "completions": 1, "backoffLimit": 6}
    job["spec"] = defaults | spec | {"selector": selector, "template": template}
    job["status"] = {}
    meta["labels"] = meta.get("labels") or labels


def _pod_spec(spec: Object) -> Object:
    containers = [
        {
            "resources": {},
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
            "imagePullPolicy": "Always",
        }
        | container
        for container in spec.get("containers") or []
    ]
    defaults = {
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "securityContext": {},
        "schedulerName": "default-scheduler",
    }
    return defaults | spec | {"containers": containers}
