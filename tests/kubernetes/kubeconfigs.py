"""Kubeconfigs, and programs that give credentials."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

SECRET = "very-secret-token"


def kubeconfig(url: str, **user: object) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "clusters": [{"name": "lab", "cluster": {"server": url}}],
        "users": [{"name": "me", "user": user or {"token": SECRET}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "me"}}],
    }


def program(path: Path, script: str) -> dict[str, Any]:
    """An exec plugin."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": str(path),
        "interactiveMode": "Never",
        "args": [],
    }
