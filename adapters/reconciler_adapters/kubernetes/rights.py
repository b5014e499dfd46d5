"""Which rights an account needs, which of them it lacks, and the Role that would grant them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reconciler.ports import Problem
from reconciler_adapters.kubernetes import objects as k8s
from reconciler_adapters.kubernetes.calls import Conversation
from reconciler_adapters.kubernetes.cluster import Cluster

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_JOBS_AND_PODS = """\
  - {apiGroups: [batch], resources: [jobs], verbs: [get, list]}
  - {apiGroups: [""], resources: [pods], verbs: [list]}
"""
_NODES = '  - {apiGroups: [""], resources: [nodes], verbs: [get]}\n'
_NAMESPACE = '  - {{apiGroups: [""], resources: [namespaces], resourceNames: [{}], verbs: [get]}}\n'


@dataclass(frozen=True, slots=True)
class Right:
    verb: str
    resource: str
    group: str = ""
    namespace: str = ""  # "": all of them
    name: str = ""  # "": any

    def __str__(self) -> str:
        resource = f"{self.resource}.{self.group}" if self.group else self.resource
        named = f" {self.name}" if self.name else ""
        place = (
            ""
            if self.name or self.resource == "nodes"
            else f" in namespace {self.namespace}"
            if self.namespace
            else " in all namespaces"
        )
        return f"{self.verb} {resource}{named}{place}"


def needed(cluster: Cluster) -> Iterator[Right]:
    """What no look can do without."""
    for namespace in cluster.namespaces or ("",):
        yield Right("list", "jobs", "batch", namespace)
        yield Right("get", "jobs", "batch", namespace)
        yield Right("list", "pods", "", namespace)
        if namespace:
            yield Right("get", "namespaces", "", namespace, namespace)
    if not cluster.namespaces:
        yield Right("get", "namespaces")


def missing_rights(talk: Conversation, cluster: Cluster) -> list[Problem]:
    """Ask the API server itself, right by right; it keeps nothing of that."""
    missing = [str(right) for right in needed(cluster) if not _has(talk, right)]
    if missing:
        return [Problem(f"missing rights: {', '.join(missing)}", role(cluster))]
    if not _has(talk, Right("get", "nodes")):
        text = "it may not get nodes: a run that vanishes waits until its last heartbeat is old (`quiet`)"
        return [Problem(text, _manifest("ClusterRole", "name: prefect-reconciler-nodes", _NODES), optional=True)]
    return []


def role(cluster: Cluster) -> str:
    """Give what grants all that is needed, as YAML: a Role for each namespace, or one ClusterRole."""
    if not cluster.namespaces:
        rules = _JOBS_AND_PODS + '  - {apiGroups: [""], resources: [namespaces, nodes], verbs: [get]}\n'
        return _manifest("ClusterRole", "name: prefect-reconciler", rules)
    return "---\n".join(
        _manifest(
            "Role",
            f"name: prefect-reconciler, namespace: {namespace}",
            _JOBS_AND_PODS + _NAMESPACE.format(namespace),
        )
        for namespace in cluster.namespaces
    )


def _manifest(kind: str, metadata: str, rules: str) -> str:
    return f"apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata: {{{metadata}}}\nrules:\n{rules}"


def _has(talk: Conversation, right: Right) -> bool:
    attributes = {
        "verb": right.verb,
        "group": right.group,
        "resource": right.resource,
        "namespace": right.namespace,
        "name": right.name,
    }
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    return talk.created(_REVIEWS, body, k8s.Review).status.allowed
