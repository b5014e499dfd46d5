"""Furnishing a cluster over REST as "admin": the worker, the controllers, the kubelets and the administrator in one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from tests.kubernetes.apiserver.cluster_objects import Object, instant, job_body, pod_body, run_labels, running_status
from tests.kubernetes.apiserver.cluster_rest import MERGE, METADATA_ONLY, client, path_of
from tests.kubernetes.apiserver.cluster_rights import Rights
from tests.kubernetes.apiserver.fake_resources import JOBS, NAMESPACES, NODES, PODS
from tests.kubernetes.apiserver.pod_states import PodStates

FIRST_NAMESPACES = {"default", "kube-system", "kube-public", "kube-node-lease"}
__all__ = ["Cluster", "client"]


class Cluster(Rights, PodStates):
    """`with Cluster(server) as cluster:`. Methods return objects as the server answered them.

    What a status of 1.20 does not know is dropped there: the condition Suspended stays (any type does), but
    status.terminating, status.ready and spec.suspend do not.
    """

    # Namespaces

    def create_namespace(self, name: str) -> Object:
        return self._create(NAMESPACES, None, {"metadata": {"name": name}})

    def namespace(self, name: str) -> Object:
        return self._ask("GET", NAMESPACES.path(name=name))

    def remove_namespace(self, name: str) -> None:
        """With all in it, as the namespace controller does."""
        self._ask("DELETE", NAMESPACES.path(name=name))
        self._empty(name)
        body = self.namespace(name)
        body["spec"] = {"finalizers": []}
        self._ask("PUT", f"{NAMESPACES.path(name=name)}/finalize", json=body)

    # Jobs and pods

    def job(
        self,
        run_id: UUID | str | None,
        *,
        namespace: str = "prefect",
        name: str | None = None,
        backoff_limit: int = 0,
        labels: Mapping[str, str] | None = None,
        suspend: bool = False,
        restart_policy: str = "Never",
        containers: Iterable[str] = ("prefect-job",),
        memory_limit: str | None = None,
        finalizers: Iterable[str] = (),
        annotations: Mapping[str, str] | None = None,
    ) -> Object:
        """As a worker of prefect-kubernetes 0.8.0 creates it; `labels` come on top (on the pod template too).

        `suspend` is dropped by 1.20 (it came with 1.21).
        """
        body = job_body(
            (run_labels(run_id) if run_id else {}) | dict(labels or {}),
            containers=containers,
            backoff_limit=backoff_limit,
            restart_policy=restart_policy,
            memory_limit=memory_limit,
            suspend=suspend,
        )
        body["metadata"] |= {"name": name} if name else {"generateName": "wise-otter-"}
        body["metadata"] |= {"finalizers": list(finalizers), "annotations": dict(annotations or {})}
        return self._create(JOBS, namespace, body)

    def set_job(self, job: Object, **status: Any) -> Object:
        """Merge into the status; None removes."""
        return self._patch(job, {"status": status}, "/status")

    def job_complete(self, job: Object) -> Object:
        now = instant()
        done = [{"type": "Complete", "status": "True", "lastProbeTime": now, "lastTransitionTime": now}]
        return self.set_job(job, startTime=now, completionTime=now, succeeded=1, active=None, conditions=done)

    def job_failed(
        self,
        job: Object,
        reason: str = "BackoffLimitExceeded",
        message: str = "Job has reached the specified backoff limit",
        failed: int = 1,
    ) -> Object:
        now = instant()
        condition = {"type": "Failed", "status": "True", "reason": reason, "message": message}
        condition |= {"lastProbeTime": now, "lastTransitionTime": now}
        return self.set_job(job, startTime=now, failed=failed, active=None, conditions=[condition])

    def pod(
        self,
        job: Object | None = None,
        *,
        run_id: UUID | str | None = None,
        namespace: str = "prefect",
        phase: str = "Running",
        node: str | None = "node-1",
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        containers: Iterable[str] = ("prefect-job",),
        finalizers: Iterable[str] = (),
    ) -> Object:
        """A pod of the Job, or of none (then with the labels of `run_id`, as if its Job had been orphaning)."""
        if job is None:
            common = {"backoff_limit": 0, "restart_policy": "Never", "memory_limit": None, "suspend": False}
            template = job_body(run_labels(run_id) if run_id else {}, containers=containers, **common)
            template["metadata"] |= {"name": "wise-otter-lost", "uid": ""}
            body = pod_body(template, node)
            del body["metadata"]["ownerReferences"]
        else:
            namespace = job["metadata"]["namespace"]
            body = pod_body(job, node)
        body["metadata"]["labels"] |= dict(labels or {})
        body["metadata"] |= {"finalizers": list(finalizers)} | ({"name": name} if name else {})
        pod = self._create(PODS, namespace, body)
        return self.set_pod(pod, **running_status(pod, phase))

    def delete(self, obj: Object, grace: int | None = None, propagation: str = "Background") -> None:
        """`grace=0` removes a bound pod at once; without it the pod stays, being deleted: there is no kubelet."""
        params: dict[str, Any] = {"propagationPolicy": propagation}
        params |= {} if grace is None else {"gracePeriodSeconds": grace}
        self._ask("DELETE", path_of(obj), params=params)

    def label(self, obj: Object, **labels: str | None) -> Object:
        """None removes. Keys with a slash: `label(job, **{"prefect.io/flow-run-id": None})`."""
        return self._patch(obj, {"metadata": {"labels": labels}})

    def finalize(self, obj: Object) -> Object:
        """Take its finalizers away."""
        return self._patch(obj, {"metadata": {"finalizers": None}})

    def node(self, name: str, ready: str = "True") -> Object:
        """Make the node, or change its condition Ready: "True", "False" or "Unknown"."""
        reason = {"True": "KubeletReady", "False": "KubeletNotReady", "Unknown": "NodeStatusUnknown"}[ready]
        condition = {"type": "Ready", "status": ready, "reason": reason, "lastTransitionTime": instant()}
        path = NODES.path(name=name)
        if self.http.get(path).status_code == 404:
            self._create(NODES, None, {"metadata": {"name": name}})
        return self._ask("PATCH", f"{path}/status", json={"status": {"conditions": [condition]}}, headers=MERGE)

    # All

    def clear(self) -> None:
        """Away with all Jobs, pods, nodes, rights, and namespaces but those of the start."""
        self.revoke_all()
        for namespace in {*self._homes(JOBS), *self._homes(PODS)}:
            self._empty(namespace)
        self._ask("DELETE", NODES.path())
        for namespace in self._ask("GET", NAMESPACES.path())["items"]:
            if (name := namespace["metadata"]["name"]) not in FIRST_NAMESPACES:
                self.remove_namespace(name)

    def _empty(self, namespace: str) -> None:
        for resource in (JOBS, PODS):
            path = resource.path(namespace)
            options = {"propagationPolicy": "Background", "gracePeriodSeconds": 0}
            self._ask("DELETE", path, params=options)
            for held in self._ask("GET", path, headers=METADATA_ONLY)["items"] or []:  # 1.20: null when empty
                patch = {"metadata": {"finalizers": None}}
                self.http.patch(f"{path}/{held['metadata']['name']}", json=patch, headers=MERGE)
