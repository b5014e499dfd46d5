"""A folder that stands for a home: with a configuration file, Prefect profiles, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.settings import ConfigError, load

URL = "http://{}:4200/api"
PROFILES = """
active = "local"
[profiles.local]
PREFECT_API_URL = "http://profile:4200/api"
PREFECT_API_KEY = "pnu_profile"
PREFECT_CLIENT_CUSTOM_HEADERS = '{"X-From": "profile"}'
[profiles.other]
PREFECT_API_URL = "http://other:4200/api"
PREFECT_API_TLS_INSECURE_SKIP_VERIFY = "true"
[profiles.empty]
"""


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def config(home: Path, text: str = "") -> Path:
    return written(home / "reconciler.toml", text)


def profiles(home: Path, text: str = PROFILES) -> Path:
    return written(home / ".prefect" / "profiles.toml", text)


def problems(home: Path, file: Path | None, **environ: str) -> str:
    with pytest.raises(ConfigError) as refused:
        load(file, {"HOME": str(home), **environ})
    return str(refused.value)
