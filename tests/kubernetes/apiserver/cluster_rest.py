"""REST as "admin" over any ApiServer."""

from __future__ import annotations

import ssl
from typing import Any, Self

import httpx

from tests.kubernetes.apiserver.cluster_objects import Object
from tests.kubernetes.apiserver.fake_resources import BY_KIND, Resource
from tests.kubernetes.apiserver.server import ApiServer

MERGE = {"Content-Type": "application/merge-patch+json"}
METADATA_ONLY = {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}


def client(server: ApiServer, user: str = "admin") -> httpx.Client:
    """Raw HTTP as that user; paths are those of the API. Close it."""
    # Plain HTTP needs no certificates, and reading the bundle takes longer than most tests.
    verify = ssl.create_default_context(cafile=str(server.ca_file)) if server.ca_file else False
    headers = {"Authorization": f"Bearer {server.token(user)}"}
    return httpx.Client(base_url=server.url, headers=headers, verify=verify, timeout=30, trust_env=False)


def path_of(obj: Object) -> str:
    meta = obj["metadata"]
    return BY_KIND[obj["apiVersion"], obj["kind"]].path(meta.get("namespace"), meta["name"])


class Rest:
    """The calls that furnishing needs; any refusal is an AssertionError."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self.http = client(server)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.http.close()

    def _ask(self, method: str, path: str, **more: Any) -> Object:
        answer = self.http.request(method, path, **more)
        if answer.is_error:
            raise AssertionError(f"{method} {path}: {answer.status_code} {answer.text[:400]}")
        return answer.json()

    def _create(self, resource: Resource, namespace: str | None, body: Object) -> Object:
        return self._ask("POST", resource.path(namespace), json=body)

    def _patch(self, obj: Object, body: Object, subresource: str = "") -> Object:
        return self._ask("PATCH", path_of(obj) + subresource, json=body, headers=MERGE)

    def get(self, obj: Object) -> Object | None:
        """As it is now; None once it is gone."""
        answer = self.http.get(path_of(obj))
        return None if answer.status_code == 404 else answer.raise_for_status().json()

    def _homes(self, resource: Resource) -> set[str]:
        """The namespaces that have such objects."""
        answer = self._ask("GET", resource.path(), headers=METADATA_ONLY)
        return {item["metadata"]["namespace"] for item in answer["items"] or []}
