"""The resources that the fake knows: names, paths, and the fields it can select by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

RBAC = "rbac.authorization.k8s.io"


@dataclass(frozen=True)
class Resource:
    """`fields` are those of a fieldSelector: name -> path in the object; metadata.name always."""

    plural: str
    kind: str
    group: str = ""
    namespaced: bool = True
    fields: tuple[tuple[str, tuple[str, ...]], ...] = ()
    refusal: str = "field label not supported: {field}"
    subresources: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        return f"{self.group}/v1" if self.group else "v1"

    @property
    def qualified(self) -> str:
        """ "jobs.batch", as messages name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def qualified_kind(self) -> str:
        return f"{self.kind}.{self.group}" if self.group else self.kind

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """ "/apis/batch/v1/namespaces/x/jobs/y"."""
        parts = [f"/apis/{self.api_version}" if self.group else "/api/v1"]
        parts += ["namespaces", namespace] if namespace and self.namespaced else []
        return "/".join([*parts, self.plural, *([name] if name else [])])

    def field_values(self, obj: dict[str, Any]) -> dict[str, str]:
        meta = obj["metadata"]
        values = {"metadata.name": meta["name"], "metadata.namespace": meta.get("namespace", "")}
        for field, path in self.fields:
            value: Any = obj
            for step in path:
                value = (value or {}).get(step)
            values[field] = str(value or DEFAULTS.get(field, ""))
        return values

    def knows_field(self, field: str) -> bool:
        return (
            field == "metadata.name"
            or (field == "metadata.namespace" and (self.namespaced or self.group == RBAC))
            or any(field == known for known, _ in self.fields)
        )


DEFAULTS = {"status.successful": "0", "spec.unschedulable": "false"}
RBAC_REFUSAL = '"{field}" is not a known field selector: only "metadata.name", "metadata.namespace"'
NAMESPACES = Resource(
    "namespaces",
    "Namespace",
    namespaced=False,
    fields=(("status.phase", ("status", "phase")),),
    subresources=("status", "finalize"),
)
NODES = Resource(
    "nodes",
    "Node",
    namespaced=False,
    fields=(("spec.unschedulable", ("spec", "unschedulable")),),
    subresources=("status",),
)
PODS = Resource(
    "pods",
    "Pod",
    fields=(
        ("status.phase", ("status", "phase")),
        ("spec.nodeName", ("spec", "nodeName")),
        ("spec.restartPolicy", ("spec", "restartPolicy")),
    ),
    subresources=("status",),
)
JOBS = Resource(
    "jobs",
    "Job",
    "batch",
    fields=(("status.successful", ("status", "succeeded")),),
    refusal='field label "{field}" not supported for batchv1.Job',
    subresources=("status",),
)
ROLES = Resource("roles", "Role", RBAC, refusal=RBAC_REFUSAL)
ROLE_BINDINGS = Resource("rolebindings", "RoleBinding", RBAC, refusal=RBAC_REFUSAL)
CLUSTER_ROLES = Resource("clusterroles", "ClusterRole", RBAC, namespaced=False, refusal=RBAC_REFUSAL)
CLUSTER_ROLE_BINDINGS = Resource(
    "clusterrolebindings", "ClusterRoleBinding", RBAC, namespaced=False, refusal=RBAC_REFUSAL
)
ACCESS_REVIEWS = Resource(
    "selfsubjectaccessreviews", "SelfSubjectAccessReview", "authorization.k8s.io", namespaced=False
)

STORED = (NAMESPACES, NODES, PODS, JOBS, ROLES, ROLE_BINDINGS, CLUSTER_ROLES, CLUSTER_ROLE_BINDINGS)
BY_PATH = {(resource.group, resource.plural): resource for resource in (*STORED, ACCESS_REVIEWS)}
BY_KIND = {(resource.api_version, resource.kind): resource for resource in STORED}
