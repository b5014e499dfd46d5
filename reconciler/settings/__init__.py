"""Configuration: file, environment and profile -> `Settings`, with every problem reported at once."""

from reconciler.settings.loading import Loaded, load, worst_case_detection
from reconciler.settings.model import ApiSettings, PolicySettings, ScopeSettings, Settings, setting_paths
from reconciler.settings.problems import ConfigError

__all__ = [
    "ApiSettings",
    "ConfigError",
    "Loaded",
    "PolicySettings",
    "ScopeSettings",
    "Settings",
    "load",
    "setting_paths",
    "worst_case_detection",
]
