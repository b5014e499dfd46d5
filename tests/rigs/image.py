"""The container image, built from this checkout by its Dockerfile. No registry is asked: the base is made here."""

from __future__ import annotations

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

# `--build-arg NAME` takes the value from the environment, so that no address gets on a command line; unset, it is none.
FROM_THE_ENVIRONMENT = (
    *("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY"),
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"),
)


def why_no_image() -> str | None:
    """A sentence, or None when the image can be built here."""
    if reason := why_no_engine():
        return reason
    if not shutil.which("debootstrap", path=SYSTEM_FOLDERS):
        return "The image's base needs debootstrap (Debian: debootstrap)."
    return None


class ImageEngine(Engine):
    """An engine that holds the image. With vfs each container would copy it whole: 20 s instead of 1."""

    def _command(self) -> list[str]:
        return [*super()._command(), *(["--storage-driver=overlay2"] if self._overlay_works() else [])]

    def _overlay_works(self) -> bool:
        """Not where the folder itself is on an overlay, as in many a CI job."""
        lower, upper, work, merged = folders = [self.folder / "try" / name for name in ("l", "u", "w", "m")]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        options = f"lowerdir={lower},upperdir={upper},workdir={work}"
        mounted = subprocess.run(
            ["mount", "-t", "overlay", "overlay", "-o", options, merged], capture_output=True, check=False, timeout=30
        )
        if mounted.returncode == 0:
            subprocess.run(["umount", merged], check=True, timeout=30)
        return mounted.returncode == 0


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


def docker(engine: Engine, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the docker command against `engine`, whatever its end; stdout and stderr are kept apart, as `logs` needs."""
    environment = inherited_environment(DOCKER_HOST=engine.base_url)
    return subprocess.run(
        [client(), *arguments], env=environment, capture_output=True, check=False, timeout=120, text=True
    )


def _run(engine: Engine, *command: str | Path, seconds: float) -> None:
    environment = inherited_environment(DOCKER_HOST=engine.base_url, DOCKER_BUILDKIT="0", DOCKER=client())
    done = subprocess.run(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=seconds,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"`{Path(command[0]).name}` ended with {done.returncode}:\n{done.stdout[-4000:]}")
