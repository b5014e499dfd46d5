"""Granting rights to "reader", and taking them."""

from __future__ import annotations

from collections.abc import Iterator

from tests.kubernetes.apiserver.cluster_objects import Object
from tests.kubernetes.apiserver.cluster_rest import Rest, client
from tests.kubernetes.apiserver.fake_resources import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, RBAC, ROLE_BINDINGS, ROLES
from tests.kubernetes.apiserver.server import ApiServer
from tests.rigs.polling import wait_until

SOON = 10.0  # seconds for RBAC to count on a real server
OWN = {"made-by": "test"}  # on RBAC objects; a real server has many of its own


class Rights(Rest):
    """The part of a Cluster that plays the administrator."""

    def __init__(self, server: ApiServer) -> None:
        super().__init__(server)
        self._granted: list[tuple[str, Object]] = []

    def grant(self, user: str, rules: list[Object], namespace: str | None = None) -> None:
        """A Role in `namespace`, or a ClusterRole, and its binding; returns once it counts."""
        role, binding = (ROLES, ROLE_BINDINGS) if namespace else (CLUSTER_ROLES, CLUSTER_ROLE_BINDINGS)
        made = self._create(role, namespace, {"metadata": {"generateName": "test-", "labels": OWN}, "rules": rules})
        name = made["metadata"]["name"]
        body = {
            "metadata": {"name": name, "labels": OWN},
            "roleRef": {"apiGroup": RBAC, "kind": role.kind, "name": name},
            "subjects": [{"kind": "User", "apiGroup": RBAC, "name": user}],
        }
        self._create(binding, namespace, body)
        asked = list(attributes(rules, namespace))
        self._granted += [(user, attributes) for attributes in asked]
        wait_until(lambda: all(self.may(user, it) for it in asked), f"{user} has the rights of {name}", SOON)

    def may(self, user: str, attributes: Object) -> bool:
        """What a SelfSubjectAccessReview says to the user."""
        with client(self._server, user) as http:
            path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
            answer = http.post(path, json={"spec": {"resourceAttributes": attributes}})
        return bool(answer.raise_for_status().json()["status"]["allowed"])

    def revoke_all(self) -> None:
        """No rights but admin's; returns once it counts."""
        own = {"labelSelector": "made-by=test"}
        for resource in (CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES):
            self._ask("DELETE", resource.path(), params=own)
        for resource in (ROLE_BINDINGS, ROLES):
            for namespace in self._homes(resource):
                self._ask("DELETE", resource.path(namespace), params=own)
        gone, self._granted = self._granted, []
        if gone:
            wait_until(lambda: not any(self.may(*it) for it in gone), "no rights are left", SOON)


def attributes(rules: list[Object], namespace: str | None) -> Iterator[Object]:
    """One question for each right."""
    for rule in rules:
        for verb in rule["verbs"]:
            for group in rule.get("apiGroups", [""]):
                for resource in rule["resources"]:
                    plural, _, subresource = resource.partition("/")
                    asked = {"verb": verb, "group": group, "resource": plural, "subresource": subresource}
                    yield asked | {"namespace": namespace or "", "name": (rule.get("resourceNames") or [""])[0]}
