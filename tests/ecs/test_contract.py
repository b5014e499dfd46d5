"""The conformance tests, over a fake AWS that real boto3 talks to."""

from __future__ import annotations

from reconciler.testing.contract import AdapterContract


class TestEcs(AdapterContract):
    """Every test of the contract."""
