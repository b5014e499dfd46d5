"""The conformance tests of every adapter, over the fake API server and a real one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.testing import AdapterContract
from tests.kubernetes.apiserver.server import ApiServer
from tests.kubernetes.world import KubernetesWorld, kubernetes_world


class TestKubernetesContract(AdapterContract):
    @pytest.fixture
    def world(self, api_server: ApiServer, tmp_path: Path) -> Iterator[KubernetesWorld]:
        with kubernetes_world(api_server, tmp_path) as world:
            yield world
