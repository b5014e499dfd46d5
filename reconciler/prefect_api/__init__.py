"""The Prefect API as an `Orchestrator`, over plain HTTP: no Prefect client, so one build speaks to every server."""

from reconciler.prefect_api.api import PrefectApi
from reconciler.prefect_api.connection import Connection

__all__ = ["Connection", "PrefectApi"]
