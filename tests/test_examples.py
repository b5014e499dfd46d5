"""The examples under config/examples: parsed, accepted by the real loader, and true about the commands they show."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler import registry
from reconciler.settings import Loaded, load
from reconciler.settings.sources import DEFAULT_FILE
from reconciler_adapters.kubernetes.cluster import Cluster
from reconciler_adapters.kubernetes.rights import role

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "config" / "examples"
MANIFEST = EXAMPLES / "kubernetes" / "reconciler.yaml"
RIGHTS = ROOT / "config" / "kubernetes"
CRON = EXAMPLES / "reconciler.cron"
UNITS = sorted((ROOT / "systemd").glob("*.service"))
STATE = "/var/lib/prefect-reconciler"
IDENTITY = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "Role",
    "metadata": {"name": "prefect-reconciler-identity", "namespace": "kube-system"},
    "rules": [{"apiGroups": [""], "resources": ["namespaces"], "resourceNames": ["kube-system"], "verbs": ["get"]}],
}
NODES = [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]
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


@pytest.mark.parametrize(
    "path", [EXAMPLES / "compose.yaml", MANIFEST, CRON, *sorted(RIGHTS.glob("*.yaml"))], ids=lambda path: path.name
)
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


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def objects() -> dict[tuple[str, str], dict[str, Any]]:
    found = documents(MANIFEST)
    named = {(one["kind"], one["metadata"]["name"]): one for one in found}
    assert len(named) == len(found)
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


def test_the_scope_builds_and_the_image_holds_the_clients(in_the_pod: Loaded) -> None:
    (bound,) = registry.bind(in_the_pod.settings.scopes)
    bound.scope.close()
    assert bound.mapping.exclusive
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert re.search(r"^ARG EXTRAS=all$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"kubernetes", "aws"} <= set(re.split(r"[\[\],]", extras["all"][0]))


def test_the_manifest_s_rights_are_those_of_the_file_for_namespaces(
    objects: dict[tuple[str, str], dict[str, Any]],
) -> None:
    rights = documents(RIGHTS / "namespaced.yaml")
    assert list(objects.values())[: len(rights)] == rights
    assert list(objects)[len(rights) :] == [("ConfigMap", "reconciler"), ("Deployment", "reconciler")]


def test_the_manifest_grants_what_its_scope_needs(
    objects: dict[tuple[str, str], dict[str, Any]], in_the_pod: Loaded
) -> None:
    (scope,) = in_the_pod.settings.scopes
    (needed,) = yaml.safe_load_all(role(Cluster.of(scope.name, scope.options)))
    assert objects["Role", "prefect-reconciler"] == needed


def test_the_rights_are_those_that_check_prints() -> None:
    """So applying what it prints mends what was installed from these files."""
    (whole,) = yaml.safe_load_all(role(Cluster(scope="any")))
    (one,) = yaml.safe_load_all(role(Cluster(scope="any", namespaces=("prefect",))))
    assert [it for it in documents(RIGHTS / "cluster-wide.yaml") if "rules" in it] == [whole]
    assert [it for it in documents(RIGHTS / "namespaced.yaml") if "rules" in it] == [one, IDENTITY]
    assert [it["rules"] for it in documents(RIGHTS / "nodes.yaml") if "rules" in it] == [NODES]


@pytest.mark.parametrize("path", [MANIFEST, *sorted(RIGHTS.glob("*.yaml"))], ids=lambda path: path.name)
def test_what_others_name_comes_before_them_and_every_role_is_bound_to_the_account(path: Path) -> None:
    roles: dict[tuple[str, str, str | None], int] = {}
    kinds = [one["kind"] for one in documents(path)]
    assert kinds == sorted(kinds, key=lambda kind: kind != "ServiceAccount")
    for one in documents(path):
        home = one["metadata"].get("namespace")
        if "rules" in one:
            roles[one["kind"], one["metadata"]["name"], home] = 0
        elif "roleRef" in one:
            assert one["kind"] == f"{one['roleRef']['kind']}Binding"
            assert one["subjects"] == [{"kind": "ServiceAccount", "name": "prefect-reconciler", "namespace": "prefect"}]
            assert one["roleRef"]["apiGroup"] == "rbac.authorization.k8s.io"
            roles[one["roleRef"]["kind"], one["roleRef"]["name"], home] += 1
        elif one["kind"] == "ServiceAccount":
            assert one["metadata"] == {"name": "prefect-reconciler", "namespace": "prefect"}
    assert set(roles.values()) == {1}


@pytest.mark.parametrize("path", [MANIFEST, *sorted(RIGHTS.glob("*.yaml"))], ids=lambda path: path.name)
def test_nothing_is_written_watched_or_secret(path: Path) -> None:
    rules = [rule for one in documents(path) for rule in one.get("rules", ())]
    assert {verb for rule in rules for verb in rule["verbs"]} <= {"get", "list"}
    assert {resource for rule in rules for resource in rule["resources"]} <= {"jobs", "pods", "namespaces", "nodes"}


def test_the_pod_is_confined(objects: dict[tuple[str, str], dict[str, Any]], container: dict[str, Any]) -> None:
    deployment = objects["Deployment", "reconciler"]["spec"]
    pod = deployment["template"]["spec"]
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    assert deployment["selector"]["matchLabels"].items() <= deployment["template"]["metadata"]["labels"].items()
    assert pod["serviceAccountName"] == objects["ServiceAccount", "prefect-reconciler"]["metadata"]["name"]
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
    assert mounted["state"] == str(in_the_pod.settings.state_dir.parent)


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
