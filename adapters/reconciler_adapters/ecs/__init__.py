"""AWS ECS."""

from __future__ import annotations

from reconciler_adapters.ecs.scope import EcsScope

__all__ = ["EcsScope"]
