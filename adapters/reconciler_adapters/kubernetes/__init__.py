"""Kubernetes: one cluster, asked about the Jobs and pods that Prefect's Kubernetes workers start.

Read `scope.py` first, then `meaning.py`: what Jobs and pods mean.
"""

from reconciler_adapters.kubernetes.scope import KubernetesScope

__all__ = ["KubernetesScope"]
