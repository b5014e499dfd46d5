"""A real private Docker engine: own socket, own data, no bridge, no iptables. Needs root and dockerd."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
from pathlib import Path

import psutil

from tests.rigs.polling import wait_until
from tests.rigs.processes import Program, inherited_environment

SYSTEM_FOLDERS = os.pathsep.join(["/usr/sbin", "/usr/bin", "/sbin", "/bin"])
IMAGE = "reconciler-test/busybox"


def why_no_engine() -> str | None:
    """A sentence, or None when an engine can be started here."""
    if os.geteuid() != 0:
        return "A private Docker engine needs root."
    absent = [name for name in ("dockerd", "docker", "busybox") if not _program(name)]
    return f"A private Docker engine needs {', '.join(absent)} (Debian: docker.io busybox-static)." if absent else None


def _program(name: str) -> str | None:
    """The system's own first: another `docker` earlier on PATH need not be the engine's client."""
    return shutil.which(name, path=SYSTEM_FOLDERS) or shutil.which(name)


def _found(name: str) -> str:
    program = _program(name)
    assert program, f"{name} is not installed"
    return program


class Engine:
    """`with Engine() as engine:`. Containers need `--network none` or `--network host`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="eng-", dir="/tmp"))  # a socket path has room for 107 bytes
        (self.folder / "daemon.json").write_text(json.dumps(self._settings()))  # instead of the machine's own
        self.base_url = f"unix://{self.folder}/d.sock"
        self.busybox = ""  # the image's id
        self._daemon: Program | None = None

    def start(self) -> Engine:
        """Start dockerd and wait until it answers. After `kill` or `crash_host` it finds the same data."""
        (self.folder / "d.pid").unlink(missing_ok=True)
        daemon = self._daemon = Program(self._command(), self.folder / "dockerd.log", inherited_environment())
        try:
            wait_until(lambda: daemon.must_run() and self._answers(), f"dockerd answering at {self.base_url}", 90)
            self.busybox = self.busybox or self._import_busybox()
        except BaseException:
            daemon.end()
            self._kill_what_is_left()
            raise
        return self

    def _command(self) -> list[str]:
        folders = {"data-root": "data", "exec-root": "exec", "pidfile": "d.pid"}
        places = [f"--{option}={self.folder}/{name}" for option, name in folders.items()]
        # the docker worker asks for host.docker.internal = host-gateway, which has no address without a bridge
        network = ["--bridge=none", "--iptables=false", "--ip6tables=false", "--host-gateway-ip=127.0.0.1"]
        return [
            _found("dockerd"),
            "-H",
            self.base_url,
            *places,
            *network,
            "--live-restore",
            "--storage-driver=vfs",
            f"--config-file={self.folder}/daemon.json",
        ]

    def _settings(self) -> dict[str, str]:
        """Gives the engine an ID of its own.

        Docker 20.10 derives the ID from /etc/docker/key.json, so two engines of one machine share it (seen on
        20.10.24); from 23.0 on it is in the data folder, and this setting is refused.
        """
        version = subprocess.run([_found("dockerd"), "--version"], capture_output=True, check=True, text=True).stdout
        old = int(version.split("version ")[1].split(".")[0]) < 23
        return {"deprecated-key-path": f"{self.folder}/key.json"} if old else {}

    @property
    def running(self) -> bool:
        """Whether dockerd runs."""
        return bool(self._daemon and self._daemon.running)

    def docker(self, *arguments: str, check: bool = True, stdin: bytes | None = None) -> str:
        """Run the docker command against this engine; gives its stdout, stripped."""
        command = [_found("docker"), "-H", self.base_url, *arguments]
        done = subprocess.run(
            command, input=stdin, capture_output=True, check=False, timeout=120, env=inherited_environment()
        )
        if check and done.returncode:
            raise RuntimeError(
                f"`docker {' '.join(arguments)}` ended with {done.returncode}: {done.stderr.decode().strip()}"
            )
        return done.stdout.decode().strip()

    def run(self, *options: str, command: tuple[str, ...] = ("sleep", "3600")) -> str:
        """A detached busybox container without a network; gives its id."""
        return self.docker("run", "--detach", "--network", "none", *options, self.busybox, *command)

    def kill(self) -> None:
        """SIGKILL dockerd, which takes its containerd along; containers live on, through `start` too (live-restore)."""
        assert self._daemon
        self._daemon.kill()
        for containerd in self._processes("containerd"):
            containerd.kill()
        # where pid 1 does not reap, a dead containerd still "exists", and the next dockerd would wait for it
        (self.folder / "exec/containerd/containerd.pid").unlink(missing_ok=True)

    def freeze(self) -> None:
        """SIGSTOP dockerd: it accepts connections, and never answers."""
        assert self._daemon
        os.kill(self._daemon.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._daemon
        os.kill(self._daemon.pid, signal.SIGCONT)

    def crash_host(self) -> None:
        """SIGKILL everything of this engine and forget /run, as when its host loses power. `start` is the reboot."""
        self.kill()
        self._kill_what_is_left()
        shutil.rmtree(self.folder / "exec")

    def reset(self) -> None:
        """Running, and without containers."""
        if not self.running:
            self.start()
        if containers := self.docker("ps", "--all", "--quiet", "--no-trunc").split():
            self.docker("rm", "--force", *containers)

    def close(self) -> None:
        if self._daemon is None:
            return
        self.reset()  # only the engine can take its containers' mounts down
        self._daemon.end(patience=30)
        self._kill_what_is_left()
        shutil.rmtree(self.folder)

    def __enter__(self) -> Engine:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answers(self) -> bool:
        return bool(self.docker("info", "--format", "{{.ID}}", check=False))

    def _processes(self, *names: str) -> list[psutil.Process]:
        """Processes with our folder on their command line, of these names if any are given."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                ours = any(str(self.folder) in word for word in process.cmdline())
                if ours and (not names or process.name() in names):
                    found.append(process)
        return found

    def _kill_what_is_left(self) -> None:
        """dockerd, containerd, the shims and their children, which are the containers; then the mounts."""
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                for each in [*process.children(recursive=True), process]:
                    each.kill()
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for mount in reversed([mount for mount in mounts if mount.startswith(f"{self.folder}/")]):
            subprocess.run(["umount", "--lazy", mount], check=True, timeout=30)

    def _import_busybox(self) -> str:
        return self.docker("import", "-", IMAGE, stdin=busybox_root())


def busybox_root() -> bytes:
    """A root file system as a tar: a static busybox under its usual names, and the empty folders a flow mounts over."""
    program = _found("busybox")
    names = subprocess.run([program, "--list"], capture_output=True, check=True, text=True).stdout.split()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for folder, mode in {"bin": 0o755, "etc": 0o755, "tmp": 0o1777}.items():
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        tar.add(program, "bin/busybox")
        for name in names:
            if name != "busybox":
                entry = tarfile.TarInfo(f"bin/{name}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(entry)
    return archive.getvalue()
