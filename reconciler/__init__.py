"""Moves Prefect flow runs whose infrastructure has vanished to Crashed, with the reason."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("prefect-reconciler")
except PackageNotFoundError:  # running from a source tree that was never installed
    __version__ = "0.0.0"
