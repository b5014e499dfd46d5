"""The container image: built by the Dockerfile from this checkout, on a base that is made here, since no registry is asked."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from reconciler import __version__
from tests.rigs.engine import SYSTEM_FOLDERS, Engine, why_no_engine
from tests.rigs.processes import inherited_environment
from tests.rigs.server import CHECKOUT

BASE = "reconciler-test/base"
IMAGE = "reconciler-test/prefect-reconciler"
MAKE_BASE = Path(__file__).parents[1] / "image" / "make_base.sh"

# `--build-arg NAME` takes the value from the environment, so that no address gets on a command line; unset ones are none.
FROM_THE_ENVIRONMENT = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")


def why_no_image() -> str | None:
    """A sentence, or None when the image can be built here."""
    if reason := why_no_engine():
        return reason
    if not shutil.which("debootstrap", path=SYSTEM_FOLDERS):
        return "The image's base needs debootstrap (Debian: debootstrap)."
    return None


def build_image(engine: Engine) -> str:
    """Build base and image on `engine`, with the legacy builder; gives the image's name. Minutes, the first time."""
    _run(engine, MAKE_BASE, BASE, seconds=300)
    arguments = [word for name in FROM_THE_ENVIRONMENT for word in ("--build-arg", name)]
    arguments += ["--build-arg", f"BASE={BASE}", "--build-arg", f"VERSION={__version__}"]
    _run(engine, client(), "build", "--network", "host", "--tag", IMAGE, *arguments, CHECKOUT, seconds=400)
    return IMAGE


def client() -> str:
    """The engine's own client: another `docker` earlier on PATH need not be it."""
    found = shutil.which("docker", path=SYSTEM_FOLDERS)
    assert found, "docker is not installed"
    return found


def _run(engine: Engine, *command: str | Path, seconds: float) -> None:
    environment = inherited_environment(DOCKER_HOST=engine.base_url, DOCKER_BUILDKIT="0", DOCKER=client())
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=seconds, text=True
    )
    if done.returncode:
        raise RuntimeError(f"`{Path(command[0]).name}` ended with {done.returncode}:\n{done.stdout[-4000:]}")
