"""The same tests over the fake and over a real API server."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest

from tests.conftest import missing
from tests.kubernetes.apiserver.cluster import Cluster, client
from tests.kubernetes.apiserver.fake import FakeApiServer
from tests.kubernetes.apiserver.server import ApiServer

BOTH = ["fake", pytest.param("real", marks=pytest.mark.kubernetes)]


@pytest.fixture(scope="session", params=BOTH)
def api_server(request: pytest.FixtureRequest) -> Iterator[ApiServer]:
    """The fake, and under the marker `kubernetes` a real one."""
    if request.param == "fake":
        with FakeApiServer() as fake:
            yield fake
        return
    from tests.kubernetes.apiserver.real import RealApiServer, why_no_apiserver

    if reason := why_no_apiserver():
        missing(reason)
    with RealApiServer() as real:
        yield real


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
    if request.param == "fake":
        with FakeApiServer() as fake:
            yield fake
        return
    from tests.kubernetes.apiserver.real import RealApiServer, why_no_apiserver

    if reason := why_no_apiserver():
        missing(reason)
    with RealApiServer(watch_cache=False) as real:
        yield real
