"""Settings that Prefect's own clients use too: the PREFECT_* variables and the active profile.

Read as Prefect 3.8.8 does (`prefect/settings/sources.py`); its `.env`, `prefect.toml` and `pyproject.toml` belong to
the folder of a flow's project, and are not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from reconciler.settings.sources import FileError, Given, Layer, home_folder, json_or_text, read_toml


def prefect_layer(variables: Mapping[str, object], origin: str) -> Layer:
    """PREFECT_* settings that a worker uses too. `origin` has a place for the variable's name."""
    paths = {
        "PREFECT_API_URL": "api.url",
        "PREFECT_API_KEY": "api.key",
        "PREFECT_API_AUTH_STRING": "api.auth_string",
        "PREFECT_CLIENT_CUSTOM_HEADERS": "api.headers",
        "PREFECT_API_TLS_INSECURE_SKIP_VERIFY": "api.tls_verify",
        "PREFECT_API_SSL_CERT_FILE": "api.ca_file",
        "PREFECT_UI_URL": "daemon.ui_url",
    }
    layer = {}
    for name, path in paths.items():
        value = variables.get(name)
        if value is not None and value != "":
            layer[path] = Given(_translated(name, value), origin.format(name=name))
    return layer


def _translated(name: str, value: object) -> object:
    if name == "PREFECT_CLIENT_CUSTOM_HEADERS" and isinstance(value, str):
        return json_or_text(value)
    if name == "PREFECT_API_TLS_INSECURE_SKIP_VERIFY":
        word = str(value).lower()
        insecure = word in {"1", "true", "t", "yes", "y", "on"}
        return not insecure if insecure or word in {"0", "false", "f", "no", "n", "off"} else value
    return value


def profile_layer(environ: Mapping[str, str]) -> tuple[Layer, str | None]:
    """The active Prefect profile, and what is wrong with it; that matters only if a setting of it is needed."""
    path = _profiles_path(environ)
    try:
        tree = read_toml(path, "the Prefect profiles file") if path else None
    except FileError as error:
        return {}, str(error)
    if path is None or tree is None:
        named = environ.get("PREFECT_PROFILES_PATH")
        return {}, f"the Prefect profiles file {named} does not exist" if named else None
    name, profiles = environ.get("PREFECT_PROFILE") or tree.get("active"), tree.get("profiles")
    profile = profiles.get(name) if isinstance(profiles, dict) and isinstance(name, str) else None
    if not isinstance(profile, dict):
        return {}, f"the Prefect profiles file {path} has no profile '{name}'" if name else None
    return prefect_layer(profile, f"Prefect profile '{name}'".replace("{", "{{").replace("}", "}}")), None


def _profiles_path(environ: Mapping[str, str]) -> Path | None:
    if environ.get("PREFECT_PROFILES_PATH"):
        return Path(environ["PREFECT_PROFILES_PATH"])
    if environ.get("PREFECT_HOME"):
        return Path(environ["PREFECT_HOME"]) / "profiles.toml"
    home = home_folder(environ)
    return home / ".prefect" / "profiles.toml" if home else None
