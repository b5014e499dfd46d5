"""Public test kit: fakes of the two ports, and the conformance tests that every adapter must pass.

A third party's adapter is tested like ours: subclass `AdapterContract`, give it a `world` fixture, run pytest.
"""

from reconciler.testing.contract import AdapterContract, Fault, World, conditions
from reconciler.testing.fakes import FakeOrchestrator, FakeScope, flow_run

__all__ = ["AdapterContract", "FakeOrchestrator", "FakeScope", "Fault", "World", "conditions", "flow_run"]
