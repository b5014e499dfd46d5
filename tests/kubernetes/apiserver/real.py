"""A real Kubernetes API: etcd and kube-apiserver 1.20.2 on loopback, without controllers, scheduler or kubelets.

So nobody but the test writes: pods and conditions of Jobs are what the test says (status subresources are not
validated on 1.20), a deleted namespace stays Terminating, and a foreground delete leaves the Job with its finalizer.
"""

from __future__ import annotations

import base64
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.rigs.polling import wait_until
from tests.rigs.processes import Program, inherited_environment
from tests.rigs.server import free_port

BUILD = Path(__file__).with_name("build.sh")
ROOT = Path(__file__).parents[3]
USERS = {"admin": "system:masters", "reader": "readers"}  # and their groups
READY = ("/readyz", "/api/v1/namespaces/kube-system", "/api/v1/namespaces/default")
PATIENCE = 60.0  # seconds for a start; 5 on an idle machine


def apiserver_binary() -> Path:
    """Named by RECONCILER_TEST_APISERVER, else where build.sh keeps it. Need not exist."""
    if named := os.environ.get("RECONCILER_TEST_APISERVER"):
        return Path(named)
    command = [str(BUILD), "--print-path"]
    return Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())


def why_no_apiserver() -> str | None:
    """A sentence, or None when a real API server can be started here."""
    if absent := [name for name in ("etcd", "openssl") if not shutil.which(name)]:
        return f"A real Kubernetes API needs {' and '.join(absent)} (Debian: etcd-server openssl)."
    if not os.access(apiserver_binary(), os.X_OK):
        return f"No kube-apiserver in RECONCILER_TEST_APISERVER or in the cache; {BUILD.relative_to(ROOT)} builds it."
    return None


class Etcd:
    """etcd with its data in `folder`, talking to nobody."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self._program: Program | None = None

    def start(self) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        program = self._program = Program(self._command(), self.folder / "etcd.log", inherited_environment())
        wait_until(lambda: program.must_run() and self._healthy(), f"etcd healthy at {self.url}", PATIENCE)

    @property
    def pid(self) -> int:
        assert self._program, "not started"
        return self._program.pid

    def compact(self) -> None:
        """Forget every older revision. Writes first: the newest stays readable, the one before can be watched from."""
        key = base64.b64encode(b"/moved").decode()
        revisions = [self._ask("kv/put", key=key)["header"]["revision"] for _ in range(2)]
        self._ask("kv/compaction", revision=revisions[-1], physical=True)

    def close(self) -> None:
        if self._program:
            self._program.kill()

    def _command(self) -> list[str]:
        return [
            "etcd",
            f"--data-dir={self.folder / 'data'}",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            "--listen-peer-urls=http://127.0.0.1:0",
            "--log-level=warn",
            "--unsafe-no-fsync",
        ]

    def _healthy(self) -> bool:
        try:
            return "leader" in self._ask("maintenance/status")
        except httpx.HTTPError:
            return False

    def _ask(self, what: str, **body: Any) -> dict[str, Any]:
        """A gRPC call as JSON: numbers of 64 bits travel as strings, keys as base64."""
        answer = httpx.post(f"{self.url}/v3/{what}", json=body, trust_env=False, timeout=30)
        answer.raise_for_status()
        given: dict[str, Any] = answer.json()
        return given


class RealApiServer:
    """`with RealApiServer() as server:` starts a cluster with the users "admin" and "reader".

    Another cluster: `RealApiServer(etcd=server.etcd, etcd_prefix="/second")`: same users and tokens, other data, other
    UID of kube-system; `compact` of one is then that of both. A test that watches from before a compaction and expects
    410 says `watch_cache=False`, for the cache still knows what etcd has forgotten; there are no bookmarks then.
    """

    def __init__(self, etcd: Etcd | None = None, etcd_prefix: str = "/registry", *, watch_cache: bool = True) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="apiserver-"))
        self.etcd = etcd or Etcd(self.folder)
        self.ca_file: Path | None = self.folder / "cert.pem"
        self.url = ""
        self._own_etcd = etcd is None
        self._options = [f"--etcd-prefix={etcd_prefix}", f"--watch-cache={str(watch_cache).lower()}"]
        self._program: Program | None = None

    def start(self) -> RealApiServer:
        """Start, and wait until it is ready and has its namespaces."""
        try:
            self._write_files()
            if self._own_etcd:
                _on_a_free_port(self.etcd.start)
            _on_a_free_port(self._start)
        except BaseException:
            self.close()
            raise
        return self

    @property
    def pid(self) -> int:
        assert self._program, "not started"
        return self._program.pid

    def token(self, user: str) -> str:
        """The bearer token of "admin" or "reader": the same in every cluster, so that one can stand in for another."""
        assert user in USERS, f"no user {user!r}"
        return f"token-of-{user}"

    def compact(self) -> None:
        """Every `continue` token given so far answers 410 Expired from now on."""
        self.etcd.compact()

    def freeze(self) -> None:
        """Connections are taken, and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Kill: nobody needs the data any more, and a frozen process hears nothing else. May be called twice."""
        if self._program:
            self._program.kill()
        if self._own_etcd:
            self.etcd.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> RealApiServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write_files(self) -> None:
        """Who may log in, and one key for all: the certificate, which is its own authority, and service accounts."""
        lines = [f'{self.token(user)},{user},{user},"{group}"' for user, group in USERS.items()]
        (self.folder / "tokens.csv").write_text("\n".join(lines))
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-subj", "/CN=kube-apiserver", "-addext", "subjectAltName=IP:127.0.0.1"]
        command += ["-addext", "keyUsage=critical,digitalSignature,keyCertSign", "-days", "2"]
        command += ["-keyout", str(self.folder / "key.pem"), "-out", str(self.ca_file)]
        subprocess.run(command, check=True, capture_output=True)

    def _start(self) -> None:
        port = free_port()
        self.url = f"https://127.0.0.1:{port}"
        log = self.folder / "apiserver.log"
        program = self._program = Program(self._command(port), log, inherited_environment())
        verify = ssl.create_default_context(cafile=self.ca_file)
        headers = {"Authorization": f"Bearer {self.token('admin')}"}
        with httpx.Client(base_url=self.url, headers=headers, verify=verify, trust_env=False, timeout=5) as admin:
            ready = f"kube-apiserver ready at {self.url}"
            wait_until(lambda: program.must_run() and _answers(admin), ready, PATIENCE)

    def _command(self, port: int) -> list[str | Path]:
        key = self.folder / "key.pem"
        return [
            apiserver_binary(),
            f"--etcd-servers={self.etcd.url}",
            *self._options,
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={self.folder}",
            f"--tls-cert-file={self.ca_file}",
            f"--tls-private-key-file={key}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.ca_file}",
            f"--service-account-signing-key-file={key}",
            "--service-cluster-ip-range=10.0.0.0/24",
            # Without a controller no namespace gets its service account, and no pod without one would be taken.
            "--disable-admission-plugins=ServiceAccount",
            "--storage-media-type=application/json",
        ]


def _answers(admin: httpx.Client) -> bool:
    try:
        return all(admin.get(path).is_success for path in READY)
    except httpx.TransportError:
        return False


def _on_a_free_port(start: Callable[[], None]) -> None:
    """Another program may take a port between our finding it free and our listening there."""
    for attempts_left in (2, 1, 0):
        try:
            start()
            return
        except RuntimeError as error:
            if not attempts_left or "address already in use" not in str(error):
                raise
