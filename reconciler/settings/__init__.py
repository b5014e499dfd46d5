"""Configuration: file, environment and profile -> `Settings`, with every problem reported at once."""

from reconciler.settings.loading import Loaded, load, worst_case_detection
from reconciler.settings.model import ApiSettings, PolicySettings, ScopeSettings, Settings, setting_paths
from reconciler.settings.problems import ConfigError
from reconciler.settings.times import deadline_problem, longest_cycle, longest_silence, watchdog_problem

__all__ = [
    "ApiSettings",
    "ConfigError",
    "Loaded",
    "PolicySettings",
    "ScopeSettings",
    "Settings",
    "deadline_problem",
    "load",
    "longest_cycle",
    "longest_silence",
    "setting_paths",
    "watchdog_problem",
    "worst_case_detection",
]
