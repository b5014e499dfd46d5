"""The examples under config/examples: parsed, accepted by the real loader, and true about the commands they show."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler import registry
from reconciler.ports import Misconfigured
from reconciler.settings import Loaded, load
from reconciler.settings.sources import DEFAULT_FILE

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "config" / "examples"
MANIFEST = EXAMPLES / "kubernetes" / "reconciler.yaml"
CRON = EXAMPLES / "reconciler.cron"
UNITS = sorted((ROOT / "systemd").glob("*.service"))
STATE = "/var/lib/prefect-reconciler"
WEB_PATHS = {"/healthz", "/readyz"}
STOPS_WITHIN_SECONDS = 8
SHOWN = re.compile(r"/opt/prefect-reconciler/bin/(reconcile[r]?)((?: (?:--?[a-z-]+|[^\s$'\")]+))*)")


def home(folder: Path) -> dict[str, str]:
    return {"HOME": str(folder)}


@cache
def help_of(command: str) -> str:
    program = Path(sys.executable).parent / command
    environ = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(
        [program, "--help"], env=environ, capture_output=True, text=True, timeout=60, check=True
    ).stdout


@pytest.mark.parametrize("path", [*UNITS, CRON], ids=lambda path: path.name)
def test_commands_are_real_and_so_are_their_flags(path: Path) -> None:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    shown = SHOWN.findall("\n".join(lines))
    assert shown
    for command, arguments in shown:
        flags = re.findall(r"--[a-z-]+", arguments)
        assert "--config" in flags
        assert f"--config {DEFAULT_FILE}" in arguments
        assert [flag for flag in flags if flag not in help_of(command)] == []


@pytest.mark.parametrize("path", [EXAMPLES / "compose.yaml", MANIFEST, CRON], ids=lambda path: path.name)
def test_an_example_says_what_to_change_and_how_to_start(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    head = "\n".join(line for line in text.splitlines()[:12] if line.startswith("#"))
    assert re.search(r"^# Change:", head, re.MULTILINE)
    assert re.search(r"^# Start:", head, re.MULTILINE)


# --- compose


@pytest.fixture(scope="module")
def sidecar() -> dict[str, Any]:
    services = yaml.safe_load((EXAMPLES / "compose.yaml").read_text(encoding="utf-8"))["services"]
    reconciler: dict[str, Any] = services["reconciler"]
    assert reconciler["environment"]["PREFECT_API_URL"] == services["worker"]["environment"]["PREFECT_API_URL"]
    return reconciler


def mounts(sidecar: dict[str, Any]) -> dict[str, tuple[str, str]]:
    parts = [volume.split(":") for volume in sidecar["volumes"]]
    return {target: (source, "".join(mode)) for source, target, *mode in parts}


def test_the_sidecar_s_configuration_loads(sidecar: dict[str, Any], tmp_path: Path) -> None:
    source, mode = mounts(sidecar)[str(DEFAULT_FILE)]
    defaults = {name: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value) for name, value in sidecar["environment"].items()}
    loaded = load(EXAMPLES / source, home(tmp_path) | {"STATE_DIRECTORY": STATE} | defaults)
    assert mode == "ro"
    assert loaded.origins["api.url"] == "environment PREFECT_API_URL"
    assert loaded.settings.api.url == "http://host.docker.internal:4200/api"
    assert str(loaded.settings.state_dir) in mounts(sidecar)
    assert loaded.settings.daemon.address
    assert sidecar["ports"] == [f"127.0.0.1:9464:{loaded.settings.daemon.address.port}"]
    (scope,) = loaded.settings.scopes
    assert scope.adapter == "docker"
    assert registry.load(scope.adapter)


def test_the_sidecar_is_confined(sidecar: dict[str, Any]) -> None:
    assert sidecar["read_only"] is True
    assert sidecar["tmpfs"] == ["/tmp"]
    assert sidecar["cap_drop"] == ["ALL"]
    assert sidecar["security_opt"] == ["no-new-privileges:true"]
    assert sidecar["restart"] == "unless-stopped"
    assert "healthcheck" not in sidecar  # the image's
    assert not {"privileged", "user", "network_mode", "pid"} & sidecar.keys()
    assert "DOCKER_GID" in sidecar["group_add"][0]
    assert mounts(sidecar)["/var/run/docker.sock"] == ("/var/run/docker.sock", "ro")
    assert int(sidecar["stop_grace_period"].removesuffix("s")) > STOPS_WITHIN_SECONDS


# --- Kubernetes


@pytest.fixture(scope="module")
def objects() -> dict[tuple[str, str], dict[str, Any]]:
    documents = list(yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8")))
    named = {(one["kind"], one["metadata"]["name"]): one for one in documents}
    assert len(named) == len(documents)
    return named


@pytest.fixture
def container(objects: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    (container,) = objects["Deployment", "reconciler"]["spec"]["template"]["spec"]["containers"]
    return dict(container)


@pytest.fixture
def in_the_pod(objects: dict[tuple[str, str], dict[str, Any]], container: dict[str, Any], tmp_path: Path) -> Loaded:
    """What the loader makes of the ConfigMap and the pod's variables; the Secret's folder is one of the test's."""
    path = tmp_path / DEFAULT_FILE.name
    path.write_text(objects["ConfigMap", "reconciler"]["data"][DEFAULT_FILE.name], encoding="utf-8")
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "prefect-api-key").write_text("pnu_from_the_secret\n", encoding="utf-8")
    variables = {one["name"]: one["value"] for one in container["env"]}
    assert variables["CREDENTIALS_DIRECTORY"] in {mount["mountPath"] for mount in container["volumeMounts"]}
    return load(path, home(tmp_path) | variables | {"CREDENTIALS_DIRECTORY": str(secrets)})


def test_the_config_map_loads(in_the_pod: Loaded) -> None:
    (scope,) = in_the_pod.settings.scopes
    assert scope.adapter == "kubernetes"
    assert in_the_pod.settings.api.key
    assert in_the_pod.settings.api.key.get_secret_value() == "pnu_from_the_secret"


def test_the_manifest_says_whether_its_adapter_is_there(in_the_pod: Loaded) -> None:
    """When the adapter comes, the sentences go."""
    missing = "kubernetes" not in registry.factories()
    for path in (MANIFEST, ROOT / "docs" / "kubernetes.md"):
        assert ("kubernetes adapter is not in this release" in path.read_text(encoding="utf-8")) == missing
    if missing:
        with pytest.raises(Misconfigured, match="there is no adapter 'kubernetes'"):
            list(registry.bind(in_the_pod.settings.scopes))


def test_the_rights_are_to_read_jobs_and_pods_and_two_namespaces(
    objects: dict[tuple[str, str], dict[str, Any]],
) -> None:
    runs = objects["Role", "reconciler-runs"]
    identity = objects["Role", "reconciler-cluster-identity"]
    assert runs["rules"] == [
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["namespaces"], "resourceNames": ["prefect"], "verbs": ["get"]},
    ]
    assert identity["metadata"]["namespace"] == "kube-system"
    assert identity["rules"] == [
        {"apiGroups": [""], "resources": ["namespaces"], "resourceNames": ["kube-system"], "verbs": ["get"]}
    ]
    assert {kind for kind, _ in objects} == {"ServiceAccount", "Role", "RoleBinding", "ConfigMap", "Deployment"}


def test_the_bindings_join_the_roles_and_the_account(objects: dict[tuple[str, str], dict[str, Any]]) -> None:
    account = objects["ServiceAccount", "reconciler"]["metadata"]
    bindings = [one for (kind, _), one in objects.items() if kind == "RoleBinding"]
    assert len(bindings) == 2
    for binding in bindings:
        role = objects["Role", binding["roleRef"]["name"]]
        assert role["metadata"]["namespace"] == binding["metadata"]["namespace"]
        assert binding["subjects"] == [{"kind": "ServiceAccount", **account}]


def test_the_pod_is_confined(objects: dict[tuple[str, str], dict[str, Any]], container: dict[str, Any]) -> None:
    deployment = objects["Deployment", "reconciler"]["spec"]
    pod = deployment["template"]["spec"]
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    assert deployment["selector"]["matchLabels"].items() <= deployment["template"]["metadata"]["labels"].items()
    assert pod["serviceAccountName"] == "reconciler"
    assert pod["terminationGracePeriodSeconds"] > STOPS_WITHIN_SECONDS
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory"} <= container["resources"]["requests"].keys()


def test_probes_and_folders_are_where_the_configuration_says(
    objects: dict[tuple[str, str], dict[str, Any]], container: dict[str, Any], in_the_pod: Loaded
) -> None:
    address = in_the_pod.settings.daemon.address
    assert address
    assert address.host == "0.0.0.0"
    assert container["ports"] == [{"name": "http", "containerPort": address.port}]
    template = objects["Deployment", "reconciler"]["spec"]["template"]
    assert template["metadata"]["annotations"]["prometheus.io/port"] == str(address.port)
    probes = [container[f"{kind}Probe"]["httpGet"] for kind in ("liveness", "readiness")]
    assert {probe["port"] for probe in probes} == {"http"}
    assert {probe["path"] for probe in probes} == WEB_PATHS
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted.keys() == {volume["name"] for volume in template["spec"]["volumes"]}
    assert mounted["config"] == str(DEFAULT_FILE.parent)
    assert mounted["state"] == str(in_the_pod.settings.state_dir)


# --- cron


def cron_job() -> tuple[list[str], str, str]:
    lines = CRON.read_text(encoding="utf-8").splitlines()
    (job,) = [line for line in lines if line and not line.startswith("#") and not re.match(r"[A-Z]+=", line)]
    *schedule, user, command = job.split(maxsplit=6)
    return schedule, user, command


def test_the_cron_file_is_in_crontab_s_format() -> None:
    schedule, user, command = cron_job()
    assert len(schedule) == 5
    assert all(re.fullmatch(r"(\*|\d+(-\d+)?)(/\d+)?(,\d+)*", part) for part in schedule)
    assert user == "root"
    assert "%" not in command  # cron makes a line break of it


def run_job(folder: Path, body: str) -> subprocess.CompletedProcess[str]:
    """Run the job as cron does, with a stand-in for `reconcile`."""
    program = folder / "reconcile"
    program.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    program.chmod(0o755)
    command = cron_job()[2].replace("/opt/prefect-reconciler/bin/reconcile", str(program))
    command = command.replace("/run/prefect-reconciler.lock", str(folder / "lock"))
    return subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=30, check=False)


def test_cron_mails_only_what_needs_a_person(tmp_path: Path) -> None:
    quiet = run_job(tmp_path, "echo nothing to tell")
    found = run_job(tmp_path, "echo one zombie; echo and why >&2; exit 3")
    assert (quiet.returncode, quiet.stdout + quiet.stderr) == (0, "")
    assert (found.returncode, found.stdout + found.stderr) == (3, "one zombie\nand why\nexit code 3\n")


def test_cron_does_not_start_a_pass_beside_a_busy_one(tmp_path: Path) -> None:
    """The pass tries to start the next one while it holds the lock."""
    second = f"flock --nonblock --conflict-exit-code 5 {tmp_path / 'lock'} true"
    held = run_job(tmp_path, f"{second}; test $? -eq 5 && exit 3")
    assert held.returncode == 3
