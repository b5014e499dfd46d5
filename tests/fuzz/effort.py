"""How hard to look: the same examples in every run, unless RECONCILER_FUZZ asks for a number of new ones."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

_MORE = int(os.environ.get("RECONCILER_FUZZ", "0"))


def fuzz(examples: int) -> settings:
    """So many examples, without a clock that could fail a test on a busy machine."""
    return settings(
        max_examples=_MORE or examples,
        derandomize=not _MORE,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
