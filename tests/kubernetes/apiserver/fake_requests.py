"""What a path and a method ask for, in the API server's words."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.kubernetes.apiserver.fake_answers import Refused, no_such_path
from tests.kubernetes.apiserver.fake_lists import Wanted, partial_wanted
from tests.kubernetes.apiserver.fake_resources import ACCESS_REVIEWS, BY_PATH, NAMESPACES, Resource
from tests.kubernetes.apiserver.fake_store import key_of
from tests.kubernetes.apiserver.selectors import BadSelector, field_terms

VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
ON_MANY = {"get": "list", "delete": "deletecollection"}


@dataclass(frozen=True)
class Request:
    """One call of a resource. `name` is "" for a list, a creation and a deletion of many."""

    verb: str
    resource: Resource
    namespace: str | None
    name: str
    subresource: str
    params: dict[str, str]
    partial: bool = False

    @property
    def key(self) -> str:
        return key_of(self.resource, self.namespace, self.name)

    @property
    def qualified(self) -> str:
        return f"{self.resource.plural}/{self.subresource}" if self.subresource else self.resource.plural

    @property
    def rbac_namespace(self) -> str:
        return self.name if self.resource is NAMESPACES else self.namespace or ""

    @property
    def rbac_name(self) -> str:
        """A list by `metadata.name=x` counts as being of x."""
        if self.name or self.verb not in {"list", "watch"}:
            return self.name
        try:
            terms = field_terms(self.params.get("fieldSelector", ""))
        except BadSelector:
            return ""
        return next((value for field, sign, value in terms if (field, sign) == ("metadata.name", "=")), "")

    def wanted(self) -> Wanted:
        """Raises Refused (400)."""
        return Wanted.of(self.resource, self.namespace, self.params, partial=self.partial)


def read(method: str, target: str, accept: str) -> Request:
    """Raises Refused: 404, 405."""
    url = urlsplit(target)
    resource, parts = _resource([unquote(part) for part in url.path.strip("/").split("/")])
    namespace = None
    if parts and parts[0] == "namespaces" and resource is not NAMESPACES:
        namespace, parts = parts[1], parts[2:]
    name, subresource = [*parts[1:], "", ""][:2]
    params = dict(parse_qsl(url.query, keep_blank_values=True))
    verb = _verb(method, name, params)
    misplaced = resource.namespaced and namespace is None and verb not in {"list", "watch"}
    if misplaced or (namespace is not None and not resource.namespaced):
        raise no_such_path()
    if len(parts) > 3 or (subresource and subresource not in resource.subresources):
        raise no_such_path()
    return Request(verb, resource, namespace, name, subresource, params, partial_wanted(accept))


def _verb(method: str, name: str, params: dict[str, str]) -> str:
    verb = VERBS[method]
    if (name and verb == "create") or (not name and verb in {"update", "patch"}):
        message = "the server does not allow this method on the requested resource"
        raise Refused(405, "MethodNotAllowed", message, details={})
    if name:
        return verb
    verb = ON_MANY.get(verb, verb)
    return "watch" if verb == "list" and params.get("watch") in {"1", "true"} else verb


def _resource(parts: list[str]) -> tuple[Resource, list[str]]:
    """It and what follows the version in the path."""
    if parts[:2] == ["api", "v1"]:
        group, rest = "", parts[2:]
    elif parts[0] == "apis" and parts[2:3] == ["v1"]:
        group, rest = parts[1], parts[3:]
    else:
        raise no_such_path()
    of_namespace = rest[0:1] == ["namespaces"] and len(rest) > 2 and rest[2] not in NAMESPACES.subresources
    plural = rest[2] if of_namespace else (rest or [""])[0]
    resource = BY_PATH.get((group, plural))
    if resource is None or (resource is ACCESS_REVIEWS and of_namespace):
        raise no_such_path()
    return resource, rest
