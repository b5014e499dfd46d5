"""One connection of the fake: authentication, RBAC, dispatch, answers."""

from __future__ import annotations

import json
import select
import socket
import traceback
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.kubernetes.apiserver.fake_answers import Refused, bad_request, not_found
from tests.kubernetes.apiserver.fake_lists import list_body
from tests.kubernetes.apiserver.fake_rbac import Attempt, check, review
from tests.kubernetes.apiserver.fake_requests import Request, read
from tests.kubernetes.apiserver.fake_resources import ACCESS_REVIEWS
from tests.kubernetes.apiserver.fake_store import Entry, Store
from tests.kubernetes.apiserver.fake_watch import watch
from tests.kubernetes.apiserver.fake_writes import create, delete, delete_collection, merged, update

if TYPE_CHECKING:
    from tests.kubernetes.apiserver.fake import FakeApiServer

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
VERSION = {"major": "1", "minor": "33", "gitVersion": "v1.33.0", "goVersion": "go1.24.2", "platform": "linux/amd64"}
OPEN_PATHS = {
    "/version": json.dumps(VERSION),
    "/api": json.dumps({"kind": "APIVersions", "versions": ["v1"]}),
    "/readyz": "ok",
    "/livez": "ok",
    "/healthz": "ok",
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def fake(self) -> FakeApiServer:
        return self.server.fake

    @property
    def store(self) -> Store:
        return self.fake.store

    def handle_one_request(self) -> None:
        """A client may hang up at any time."""
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Nothing: the tests look at what the client saw."""

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            self._answer(body)
        except Refused as refusal:
            self._send(refusal.code, refusal.body)
        except OSError:
            raise
        except Exception:
            self._send(500, {"kind": "Status", "status": "Failure", "message": traceback.format_exc(), "code": 500})

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def _answer(self, body: bytes) -> None:
        user = self._user()
        path = urlsplit(self.path).path
        if self.command == "GET" and path in OPEN_PATHS:
            text = OPEN_PATHS[path]
            self._send(200, text.encode(), JSON if text.startswith("{") else "text/plain; charset=utf-8")
            return
        request = read(self.command, self.path, self.headers.get("Accept", ""))
        check(
            self.store,
            Attempt(
                user=user,
                verb=request.verb,
                group=request.resource.group,
                resource=request.qualified,
                namespace=request.rbac_namespace,
                name=request.rbac_name,
            ),
            request.resource,
        )
        if request.resource is ACCESS_REVIEWS:
            self._review(user, self._decoded(body))
        else:
            getattr(self, f"_{request.verb}")(request, body)

    def _user(self) -> str:
        """Without a token it is "system:anonymous", as by default on real ones. Raises Refused (401)."""
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return "system:anonymous"
        user = self.fake.user(token.strip())
        if user is None:
            raise Refused(401, "Unauthorized", "Unauthorized")
        return user

    def _review(self, user: str, asked: dict[str, Any]) -> None:
        meta = {"creationTimestamp": None}
        kind = {"kind": ACCESS_REVIEWS.kind, "apiVersion": ACCESS_REVIEWS.api_version, "metadata": meta}
        spec = asked.get("spec") or {}
        self._send(201, kind | {"spec": spec, "status": review(self.store, user, spec)})

    def _list(self, request: Request, _: bytes) -> None:
        self._send(200, list_body(self.store, request.wanted(), request.params))

    def _get(self, request: Request, _: bytes) -> None:
        entry = self._entry(request)
        self._send(200, entry.partial if request.partial else entry.whole)

    def _create(self, request: Request, body: bytes) -> None:
        obj = self._decoded(body)
        self._send(201, create(self.store, request.resource, request.namespace, obj).whole)

    def _update(self, request: Request, body: bytes) -> None:
        new = self._decoded(body)
        with self.store.changed:
            self._send(200, update(self.store, self._entry(request), new, request.subresource).whole)

    def _patch(self, request: Request, body: bytes) -> None:
        if self.headers.get("Content-Type", "").partition(";")[0] != MERGE_PATCH:
            raise Refused(415, "UnsupportedMediaType", "415: Unsupported Media Type", details={})
        patch = self._decoded(body)
        with self.store.changed:
            entry = self._entry(request)
            new = merged(entry.obj(), patch)
            if "resourceVersion" not in (patch.get("metadata") or {}):
                new["metadata"].pop("resourceVersion", None)
            self._send(200, update(self.store, entry, new, request.subresource).whole)

    def _delete(self, request: Request, body: bytes) -> None:
        with self.store.changed:
            left = delete(self.store, self._entry(request), self._options(request, body))
        self._send(200, left.whole if isinstance(left, Entry) else left)

    def _deletecollection(self, request: Request, body: bytes) -> None:
        with self.store.changed:
            answer = list_body(self.store, request.wanted(), {})
            delete_collection(self.store, request.wanted(), self._options(request, body))
        self._send(200, answer)

    def _watch(self, request: Request, _: bytes) -> None:
        lines = watch(self.store, request.wanted(), request.params)
        self.send_response(200)
        self.send_header("Content-Type", JSON)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in lines:
            if self.fake.closing.is_set() or self._nobody_listens():
                self.close_connection = True
                return
            if line:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.write(b"0\r\n\r\n")

    def _nobody_listens(self) -> bool:
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)

    def _entry(self, request: Request) -> Entry:
        entry = self.store.get(request.resource, request.key)
        if entry is None:
            raise not_found(request.resource, request.name)
        return entry

    def _options(self, request: Request, body: bytes) -> dict[str, str]:
        """DeleteOptions of the body, or of the query where there is none."""
        if not body:
            return request.params
        return {key: str(value) for key, value in self._decoded(body).items() if value is not None}

    def _decoded(self, body: bytes) -> dict[str, Any]:
        try:
            decoded = json.loads(body)
        except ValueError as problem:
            message = f"couldn't get version/kind; json parse error: {problem}"
            raise bad_request(f"the object provided is unrecognized: {message}") from None
        return decoded if isinstance(decoded, dict) else {}

    def _send(self, code: int, body: bytes | dict[str, Any], content_type: str = JSON) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Cache-Control", "no-cache, private")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
