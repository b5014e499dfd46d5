"""Lists of the fake: selectors, pages with continue tokens, metadata only."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice

from tests.kubernetes.apiserver.fake_answers import bad_request, expired_token
from tests.kubernetes.apiserver.fake_resources import Resource
from tests.kubernetes.apiserver.fake_store import Entry, Store, after
from tests.kubernetes.apiserver.selectors import BadSelector, Selector, field_selector, field_terms, label_selector

TOKEN_VERSION = "meta.k8s.io/v1"
Render = Callable[[Entry], bytes]


@dataclass(frozen=True)
class Wanted:
    """What a list or watch asks for."""

    resource: Resource
    namespace: str | None
    labels: Selector
    fields: Selector
    partial: bool = False  # Accept: application/json;as=PartialObjectMetadataList

    @classmethod
    def of(cls, resource: Resource, namespace: str | None, params: Mapping[str, str], *, partial: bool) -> Wanted:
        try:
            terms = field_terms(params.get("fieldSelector", ""))
            labels = label_selector(params.get("labelSelector", ""))
        except BadSelector as problem:
            raise bad_request(str(problem)) from None
        for field, _, _ in terms:
            if not resource.knows_field(field):
                raise bad_request(resource.refusal.format(field=field))
        return cls(resource, namespace, labels, field_selector(terms), partial)

    def covers(self, entry: Entry) -> bool:
        inside = self.namespace is None or entry.key.startswith(f"{self.namespace}/")
        return inside and self.selects(entry)

    def selects(self, entry: Entry) -> bool:
        return self.labels.matches(entry.labels) and self.fields.matches(entry.fields)

    @property
    def selective(self) -> bool:
        return bool(self.labels) or bool(self.fields)


@dataclass(frozen=True)
class _Page:
    entries: list[Entry]
    revision: int
    token: str = ""
    remaining: int | None = None


def list_body(store: Store, wanted: Wanted, params: Mapping[str, str]) -> bytes:
    """The JSON of the answer. Raises Refused."""
    page = _page(store, wanted, params)
    metadata: dict[str, object] = {"resourceVersion": str(page.revision)}
    metadata |= {"continue": page.token} if page.token else {}
    metadata |= {} if page.remaining is None else {"remainingItemCount": page.remaining}
    kind, version = f"{wanted.resource.kind}List", wanted.resource.api_version
    if wanted.partial:
        kind, version = "PartialObjectMetadataList", "meta.k8s.io/v1"
    head = json.dumps({"kind": kind, "apiVersion": version, "metadata": metadata}, separators=(",", ":"))
    items = b"[" + b",".join(entry.partial if wanted.partial else entry.raw for entry in page.entries) + b"]"
    if wanted.partial and not page.entries:
        items = b"null"  # so does 1.20
    return head[:-1].encode() + b',"items":' + items + b"}\n"


def _page(store: Store, wanted: Wanted, params: Mapping[str, str]) -> _Page:
    limit = max(0, whole_number(params, "limit"))
    token = params.get("continue", "")
    version = params.get("resourceVersion", "")
    if token and version not in {"", "0"}:
        raise bad_request("specifying resource version is not allowed when using continue")
    if version == "0" and not token:
        limit = 0  # such a list comes out of the watch cache, whole
    with store.changed:
        entries, revision, start = _where(store, wanted.resource, token)
        if limit and revision == store.revision:
            store.keep_snapshot(wanted.resource)
    return _cut(after(entries, wanted.namespace, start), wanted, limit, revision)


def _where(store: Store, resource: Resource, token: str) -> tuple[list[Entry], int, str]:
    if not token:
        return store.ordered(resource), store.revision, ""
    revision, start = read_token(token)
    if revision < 0:
        return store.ordered(resource), store.revision, start
    entries = store.snapshot(resource, revision)
    if entries is None:
        raise expired_token(make_token(-1, start))
    return entries, revision, start


def _cut(candidates: list[Entry], wanted: Wanted, limit: int, revision: int) -> _Page:
    if not limit:
        return _Page(list(filter(wanted.selects, candidates)), revision)
    numbered = ((at, entry) for at, entry in enumerate(candidates) if wanted.selects(entry))
    found = list(islice(numbered, limit))
    if len(found) < limit or (rest := len(candidates) - found[-1][0] - 1) == 0:
        return _Page([entry for _, entry in found], revision)
    last = found[-1][1].key
    if wanted.namespace is not None:
        last = last.removeprefix(f"{wanted.namespace}/")
    # With selectors there may be nothing behind the token: the server has not looked.
    remaining = None if wanted.selective else rest
    return _Page([entry for _, entry in found], revision, make_token(revision, last + "\0"), remaining)


def make_token(revision: int, start: str) -> str:
    text = json.dumps({"v": TOKEN_VERSION, "rv": revision, "start": start}, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_token(token: str) -> tuple[int, str]:
    """Its revision (-1: the newest) and where to go on. Raises Refused (400)."""
    start = "invalid continue token: continue key is not valid"
    try:
        content = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        version, revision, key = content["v"], int(content["rv"]), str(content["start"])
    except (ValueError, TypeError, KeyError) as problem:
        raise bad_request(f"{start}: {problem}") from None
    if version != TOKEN_VERSION:
        raise bad_request(f'{start}: server does not recognize this encoded version "{version}"')
    if not key:
        raise bad_request(f"{start}: encoded start key empty (version {TOKEN_VERSION})")
    return revision, key


def whole_number(params: Mapping[str, str], name: str) -> int:
    """0 when not given. Raises Refused (400)."""
    text = params.get(name, "") or "0"
    try:
        return int(text)
    except ValueError:
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None


def partial_wanted(accept: str) -> bool:
    return "as=PartialObjectMetadata" in accept
