"""The same tests over the fake and over a real API server."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import yaml

from reconciler_adapters.kubernetes import KubernetesScope
from reconciler_adapters.kubernetes import cluster as kubernetes_cluster
from tests.conftest import missing
from tests.kubernetes.apiserver.cluster import Cluster, client
from tests.kubernetes.apiserver.fake import FakeApiServer
from tests.kubernetes.apiserver.server import ApiServer
from tests.kubernetes.passes import Passes, passes
from tests.kubernetes.world import KubernetesWorld, kubernetes_world

BOTH = ["fake", pytest.param("real", marks=pytest.mark.kubernetes)]


def _server(kind: str, *, watch_cache: bool = True) -> Iterator[ApiServer]:
    """The fake has no cache."""
    if kind == "fake":
        with FakeApiServer() as fake:
            yield fake
        return
    from tests.kubernetes.apiserver.real import RealApiServer, why_no_apiserver

    if reason := why_no_apiserver():
        missing(reason)
    with RealApiServer(watch_cache=watch_cache) as real:
        yield real


@pytest.fixture(scope="session", params=BOTH)
def api_server(request: pytest.FixtureRequest) -> Iterator[ApiServer]:
    """The fake, and under the marker `kubernetes` a real one."""
    yield from _server(request.param)


@pytest.fixture
def cluster(api_server: ApiServer) -> Iterator[Cluster]:
    """Empty but for the namespaces of the start; cleared again afterwards."""
    with Cluster(api_server) as cluster:
        yield cluster
        cluster.clear()


@pytest.fixture
def home(cluster: Cluster) -> str:
    """A namespace of the test's own."""
    name = f"home-{uuid4().hex[:8]}"
    cluster.create_namespace(name)
    return name


@pytest.fixture
def reader(api_server: ApiServer, cluster: Cluster) -> Iterator[httpx.Client]:
    """HTTP as the user who may do what `cluster.grant` granted."""
    with client(api_server, "reader") as http:
        yield http


@pytest.fixture(params=BOTH)
def forgetful_server(request: pytest.FixtureRequest) -> Iterator[ApiServer]:
    """One of the test's own that forgets at `compact` even what it would still have in its watch cache."""
    yield from _server(request.param, watch_cache=False)


@pytest.fixture
def world(api_server: ApiServer, tmp_path: Path) -> Iterator[KubernetesWorld]:
    """A scope on the cluster, behind a front that can let things go wrong."""
    with kubernetes_world(api_server, tmp_path) as world:
        yield world


@pytest.fixture
def many(world: KubernetesWorld) -> Iterator[Passes]:
    """Whole passes of the core over `world`."""
    with passes(world) as many:
        yield many


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the machine's own kubeconfig nor its service account may decide a test."""
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(kubernetes_cluster, "_SERVICE_ACCOUNT", tmp_path / "no-account")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "kubeconfig"


@pytest.fixture
def write(file: Path) -> Callable[[object], KubernetesScope]:
    """Write the kubeconfig, and give a scope that uses it."""

    def write(content: object) -> KubernetesScope:
        file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return KubernetesScope("lab", {"kubeconfig": str(file)})

    return write


@pytest.fixture
def dead() -> str:
    """An address where nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"
