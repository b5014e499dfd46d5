"""Where runs were last seen alive, and what their nodes say of those that vanished. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from reconciler.model import Cause


class NodeState(StrEnum):
    WELL = "well"  # its kubelet is heard of
    LOST = "lost"
    GONE = "gone"
    UNSAID = "unsaid"  # nobody may tell us, or it is not known which one it was


@dataclass(frozen=True, slots=True)
class LastNode:
    """Where a run was last seen alive, and how that node fares: what vanished from a node that is well has ended."""

    name: str | None = None
    state: NodeState = NodeState.UNSAID
    announced: Cause | None = None  # what was about to end the pod when it was seen there

    @property
    def cause(self) -> Cause | None:
        """Why the pod is no more, as far as its node says."""
        lost = self.state in {NodeState.GONE, NodeState.LOST}
        return self.announced or (Cause.NODE_LOST if lost else None)

    def or_on(self, other: LastNode) -> LastNode:
        """The same of a run that lives in two pods: of several, none can vouch for the others."""
        return LastNode(
            self.name if self.name == other.name else None,
            announced=self.announced if self.announced is other.announced else None,
        )

    @property
    def words(self) -> str:
        if self.state is NodeState.GONE:
            return f" (its node {self.name} is gone)"
        return f" (its node {self.name} is not heard of)" if self.state is NodeState.LOST else ""
