"""A Kubernetes API server as far as a reconciler uses one, in-process and without controllers.

Shapes, texts and rules are those of Kubernetes 1.20 to 1.33; `test_faithful.py` asks this one and a real one the same
things. Usable on its own, for benchmarks: `with FakeApiServer() as server: server.load(objects)`. It differs from a
real one in this: answers are never compressed, there is no validation beyond what the tests need, no managedFields, and
RBAC objects count at once.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.kubernetes.apiserver.fake_defaults import complete
from tests.kubernetes.apiserver.fake_handler import Handler
from tests.kubernetes.apiserver.fake_resources import BY_KIND, NAMESPACES
from tests.kubernetes.apiserver.fake_store import Store

FIRST_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


class FakeApiServer:
    """It runs from its construction to `close`."""

    ca_file: Path | None = None

    def __init__(self) -> None:
        self.store = Store()
        self._http = _Http(("127.0.0.1", 0), Handler)
        self._http.fake = self
        self.closing = threading.Event()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self.load({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}} for name in FIRST_NAMESPACES)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def __enter__(self) -> FakeApiServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def token(self, user: str) -> str:
        return f"token-of-{user}"

    def user(self, token: str) -> str | None:
        return {self.token(user): user for user in ("admin", "reader")}.get(token)

    def compact(self) -> None:
        self.store.compact()

    def load(self, objects: Iterable[dict[str, Any]]) -> None:
        """Store objects (with kind, apiVersion, metadata.namespace, and status if any), without HTTP and checks.

        What is missing is added as at a creation, except that a given uid, creationTimestamp and status stay.
        """
        for obj in objects:
            resource = BY_KIND[obj["apiVersion"], obj["kind"]]
            given = obj["metadata"]
            new = complete(resource, given.get("namespace"), obj)
            new["metadata"] |= {key: given[key] for key in ("uid", "creationTimestamp") if key in given}
            if "status" in obj and resource is not NAMESPACES:
                new["status"] = obj["status"]
            self.store.put(resource, new)

    def close(self) -> None:
        if self.closing.is_set():
            return
        self.closing.set()
        with self.store.changed:
            self.store.changed.notify_all()
        self._http.shutdown()
        self._http.server_close()
        self._http.hang_up()
        self._thread.join()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    fake: FakeApiServer

    def __init__(self, *args: Any) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Kept-alive connections end, and their threads with them."""
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # it went by itself
                continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a client that hangs up is none of ours, and the handler answers 500 for the rest."""
