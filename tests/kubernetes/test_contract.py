"""The conformance tests of every adapter, over the fake API server and a real one: `world` is in conftest."""

from __future__ import annotations

from reconciler.testing import AdapterContract


class TestKubernetesContract(AdapterContract):
    pass
