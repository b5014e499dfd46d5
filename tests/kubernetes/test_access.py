"""Getting at a cluster: kubeconfigs, contexts, tokens, a pod's own account, TLS; and clusters that cannot be got at."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from reconciler.model import Condition
from reconciler.ports import AdapterError, Misconfigured
from reconciler.testing import Fault, flow_run
from reconciler_adapters.kubernetes import KubernetesScope
from reconciler_adapters.kubernetes import cluster as kubernetes_cluster
from reconciler_adapters.kubernetes import scope as kubernetes_scope
from tests.conftest import missing
from tests.kubernetes.apiserver.cluster import Cluster
from tests.kubernetes.apiserver.fake import FakeApiServer
from tests.kubernetes.apiserver.front import FaultFront
from tests.kubernetes.apiserver.real import RealApiServer, why_no_apiserver
from tests.kubernetes.apiserver.server import ApiServer
from tests.kubernetes.world import kubeconfig
from tests.rigs.polling import wait_until

pytestmark = pytest.mark.usefixtures("bare_machine")
needs_apiserver = pytest.mark.kubernetes
READ_ALL: list[dict[str, Any]] = [
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
    {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]},
]


@pytest.fixture(scope="module")
def real() -> Iterator[RealApiServer]:
    """A real one of these tests' own: they freeze it."""
    if reason := why_no_apiserver():
        missing(reason)
    with RealApiServer() as real:
        yield real


@pytest.fixture
def front(api_server: ApiServer) -> Iterator[FaultFront]:
    with FaultFront(api_server) as front:
        yield front


def soon(seconds: float = 10.0) -> float:
    return time.monotonic() + seconds


def bound(file: Path, **options: object) -> KubernetesScope:
    return KubernetesScope("lab", {"kubeconfig": str(file), **options})


def edit(file: Path, **changes: Any) -> None:
    """Change the kubeconfig: `user` and `cluster` replace the only one of their kind, all else the whole key."""
    content = yaml.safe_load(file.read_text())
    for key, value in changes.items():
        if key in {"user", "cluster"}:
            content[f"{key}s"][0][key] = value
        else:
            content[key.replace("_", "-")] = value
    file.write_text(yaml.safe_dump(content))


def uid_of(cluster: Cluster) -> str:
    return str(cluster.namespace("kube-system")["metadata"]["uid"])


# Kubeconfigs and contexts


def test_a_kubeconfig(api_server: ApiServer, cluster: Cluster, file: Path) -> None:
    scope = bound(kubeconfig(file, api_server))
    assert scope.identity(soon()) == uid_of(cluster)
    assert scope.check() == []
    scope.close()
    assert scope.identity(soon()) == uid_of(cluster), "a closed scope opens again"


def test_the_environment_names_it(
    api_server: ApiServer, cluster: Cluster, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(file, api_server)))
    assert KubernetesScope("lab", {}).identity(soon()) == uid_of(cluster)


def test_several_in_the_environment(
    api_server: ApiServer, cluster: Cluster, tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = yaml.safe_load(kubeconfig(file, api_server).read_text())
    rest = tmp_path / "context"
    rest.write_text(yaml.safe_dump({key: both[key] for key in ("contexts", "current-context")}))
    file.write_text(yaml.safe_dump({key: both[key] for key in ("clusters", "users")}))
    monkeypatch.setenv("KUBECONFIG", f"{rest}:/nowhere/at-all:{file}")
    assert KubernetesScope("lab", {}).identity(soon()) == uid_of(cluster)


def test_the_home_folder_has_it(
    api_server: ApiServer, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".kube").mkdir()
    kubeconfig(tmp_path / ".kube" / "config", api_server)
    assert KubernetesScope("lab", {}).identity(soon()) == uid_of(cluster)
    assert KubernetesScope("lab", {"kubeconfig": "~/.kube/config"}).identity(soon()) == uid_of(cluster)


def test_a_context_is_chosen(api_server: ApiServer, cluster: Cluster, file: Path) -> None:
    kubeconfig(file, api_server)
    good = {"name": "good", "context": {"cluster": "lab", "user": "admin"}}
    bad = {"name": "bad", "context": {"cluster": "lab", "user": "nobody"}}
    edit(file, contexts=[bad, good], current_context="bad")
    scope = bound(file, context="good")
    assert scope.identity(soon()) == uid_of(cluster)
    run = flow_run("default:otter")
    [seen] = scope.observe([run], soon()).observations[run.id]
    assert seen.resource
    assert seen.resource.title == "Kubernetes Job default/otter on cluster good"
    named = bound(file, context="good", cluster_name="prod").observe([run], soon()).observations[run.id]
    assert [one.resource.title for one in named if one.resource] == ["Kubernetes Job default/otter on cluster prod"]


def test_a_context_that_is_not_there(api_server: ApiServer, file: Path) -> None:
    with pytest.raises(
        Misconfigured, match=r"cannot be used: .*'?wrong'?.*; see the options `kubeconfig` and `context`"
    ):
        bound(kubeconfig(file, api_server), context="wrong").identity(soon())


def test_two_contexts_are_two_scopes(tmp_path: Path, api_server: ApiServer, cluster: Cluster) -> None:
    """One kubeconfig, two clusters, two scopes at the same time in one process."""
    with FakeApiServer() as other, Cluster(other) as second:
        mine, others = (
            yaml.safe_load(kubeconfig(tmp_path / "one", server).read_text()) for server in (api_server, other)
        )
        both = mine | {
            "clusters": [*mine["clusters"], {"name": "other", "cluster": others["clusters"][0]["cluster"]}],
            "contexts": [*mine["contexts"], {"name": "other", "context": {"cluster": "other", "user": "admin"}}],
        }
        file = tmp_path / "both"
        file.write_text(yaml.safe_dump(both))
        scopes = [bound(file, context=name) for name in ("lab", "other")]
        for _ in range(2):
            assert [scope.identity(soon()) for scope in scopes] == [uid_of(cluster), uid_of(second)]
        for scope in scopes:
            scope.close()


@needs_apiserver
def test_two_real_clusters_have_two_identities(real: RealApiServer, tmp_path: Path) -> None:
    with RealApiServer(etcd=real.etcd, etcd_prefix="/second") as second:
        places = [kubeconfig(tmp_path / str(number), server) for number, server in enumerate((real, second))]
        one, other = (bound(place).identity(soon()) for place in places)
        assert one
        assert other
        assert one != other


# Credentials


def test_a_token_that_is_not_known(api_server: ApiServer, file: Path) -> None:
    kubeconfig(file, api_server)
    edit(file, user={"token": "an-old-token"})
    words = r"it answered 401 \(Unauthorized\); its credentials are not valid \(any more\): renew the token"
    with pytest.raises(Misconfigured, match=words) as caught:
        bound(file).identity(soon())
    assert "an-old-token" not in str(caught.value)


@pytest.mark.parametrize("user", [{}, {"token": ""}, {"username": "admin", "password": "wrong"}])
def test_no_credentials(api_server: ApiServer, file: Path, user: dict[str, str]) -> None:
    kubeconfig(file, api_server)
    edit(file, user=user)
    with pytest.raises(Misconfigured, match=r"it answered 40[13]"):
        bound(file).identity(soon())


@pytest.mark.parametrize("end", ["", "\n"], ids=["bare", "with a line's end"])
def test_a_token_file_is_read_again_after_401(
    api_server: ApiServer, cluster: Cluster, file: Path, tmp_path: Path, end: str
) -> None:
    token = tmp_path / "token"
    token.write_text(f"an-old-token{end}")
    kubeconfig(file, api_server)
    edit(file, user={"tokenFile": str(token)})
    scope = bound(file)
    with pytest.raises(Misconfigured, match="it answered 401"):
        scope.identity(soon())
    token.write_text(f"{api_server.token('admin')}{end}")
    assert scope.identity(soon()) == uid_of(cluster)


def test_a_connection_that_worked_reads_its_token_again_after_401(
    cluster: Cluster, front: FaultFront, file: Path, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(front.token("admin"))
    kubeconfig(file, front)
    edit(file, user={"tokenFile": str(token)})
    scope = bound(file)
    scope.identity(soon())
    token.write_text(front.token("reader"))
    front.inject(Fault.UNAUTHORIZED, times=1)
    with pytest.raises(Misconfigured):
        scope.identity(soon())
    with pytest.raises(Misconfigured, match=r'it answered 403 .*"reader"'):
        scope.identity(soon())
    cluster.grant("reader", READ_ALL)
    assert scope.identity(soon()) == uid_of(cluster)
    sent = [call.headers["authorization"] for call in front.calls]
    assert sent[:2] == [f"Bearer {front.token('admin')}"] * 2
    assert set(sent[2:]) == {f"Bearer {front.token('reader')}"}


def test_a_token_is_read_again_after_a_while(
    front: FaultFront, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text(front.token("admin"))
    kubeconfig(file, front)
    edit(file, user={"tokenFile": str(token)})
    monkeypatch.setattr(kubernetes_cluster, "_MAX_AGE", 0.0)
    scope = bound(file)
    scope.identity(soon())
    token.write_text(front.token("reader"))
    with pytest.raises(Misconfigured, match="403"):
        scope.identity(soon())


def exec_plugin(path: Path, credential: Path) -> dict[str, Any]:
    path.write_text(f"#!/bin/sh\ncat {credential}\n")
    path.chmod(0o755)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(path), "interactiveMode": "Never"}}


def test_an_exec_plugin(api_server: ApiServer, cluster: Cluster, file: Path, tmp_path: Path) -> None:
    credential = tmp_path / "credential"
    said = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
    credential.write_text(json.dumps(said | {"status": {"token": "an-old-token"}}))
    kubeconfig(file, api_server)
    edit(file, user=exec_plugin(tmp_path / "plugin", credential))
    scope = bound(file)
    with pytest.raises(Misconfigured, match="it answered 401"):
        scope.identity(soon())
    credential.write_text(json.dumps(said | {"status": {"token": api_server.token("admin")}}))
    assert scope.identity(soon()) == uid_of(cluster), "after a refusal the plugin is asked again"


@pytest.mark.parametrize("answer", ["", "nonsense", "{}", '{"status": {}}'])
def test_an_exec_plugin_that_gives_nothing(api_server: ApiServer, file: Path, tmp_path: Path, answer: str) -> None:
    credential = tmp_path / "credential"
    credential.write_text(answer)
    kubeconfig(file, api_server)
    edit(file, user=exec_plugin(tmp_path / "plugin", credential))
    with pytest.raises(Misconfigured):
        bound(file).identity(soon())


# The account of a pod


@pytest.fixture
def account(real: RealApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process as a pod of the real cluster, with admin's token."""
    from kubernetes.config import incluster_config

    account = tmp_path / "account"
    account.mkdir()
    (account / "token").write_text(real.token("admin"))
    (account / "namespace").write_text("default")
    assert real.ca_file
    (account / "ca.crt").write_bytes(real.ca_file.read_bytes())
    monkeypatch.setattr(kubernetes_cluster, "_SERVICE_ACCOUNT", account)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(account / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(account / "ca.crt"))
    address = urlsplit(real.url)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", str(address.hostname))
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(address.port))
    return account


@pytest.fixture
def real_cluster(real: RealApiServer) -> Iterator[Cluster]:
    with Cluster(real) as cluster:
        yield cluster
        cluster.clear()


@needs_apiserver
class TestOwnAccount:
    def test_it_is_used_without_any_option(self, account: Path, real_cluster: Cluster) -> None:
        scope = KubernetesScope("pod", {})
        assert scope.identity(soon()) == uid_of(real_cluster)
        assert scope.check() == []
        run = flow_run("default:otter")
        [seen] = scope.observe([run], soon()).observations[run.id]
        assert seen.condition is Condition.GONE
        assert seen.resource
        assert seen.resource.title == "Kubernetes Job default/otter"
        scope.close()

    def test_a_kubeconfig_option_goes_before_it(self, account: Path, file: Path) -> None:
        with FakeApiServer() as other, Cluster(other) as elsewhere:
            assert bound(kubeconfig(file, other)).identity(soon()) == uid_of(elsewhere)

    def test_a_token_that_is_renewed(self, account: Path, real: RealApiServer, real_cluster: Cluster) -> None:
        (account / "token").write_text("an-old-token")
        scope = KubernetesScope("pod", {})
        with pytest.raises(Misconfigured, match="it answered 401"):
            scope.identity(soon())
        (account / "token").write_text(real.token("admin"))
        assert scope.identity(soon()) == uid_of(real_cluster)

    def test_a_token_with_a_line_s_end(self, account: Path, real: RealApiServer, real_cluster: Cluster) -> None:
        (account / "token").write_text(real.token("admin") + "\n")
        assert KubernetesScope("pod", {}).identity(soon()) == uid_of(real_cluster)

    @pytest.mark.parametrize("name", ["token", "ca.crt"])
    @pytest.mark.parametrize("content", [None, ""], ids=["missing", "empty"])
    def test_a_file_of_it_that_is_no_use(self, account: Path, name: str, content: str | None) -> None:
        (account / name).unlink() if content is None else (account / name).write_text(content)
        with pytest.raises(Misconfigured, match="cannot be used"):
            KubernetesScope("pod", {}).identity(soon())

    def test_it_is_discovered(self, account: Path, real_cluster: Cluster) -> None:
        assert KubernetesScope.discover() == {}

    def test_its_namespace_is_discovered_if_it_may_see_no_more(
        self, account: Path, real: RealApiServer, real_cluster: Cluster
    ) -> None:
        (account / "token").write_text(real.token("reader"))
        assert KubernetesScope.discover() is None
        real_cluster.grant("reader", READ_ALL, "default")
        found = KubernetesScope.discover()
        assert found == {"namespaces": ["default"]}
        assert KubernetesScope("pod", found).identity(soon()).startswith("default:")


# TLS


@pytest.fixture
def other_authority(tmp_path: Path) -> Path:
    path = tmp_path / "other.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=other", "-days", "2", "-keyout", str(tmp_path / "other.key"), "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


@needs_apiserver
def test_a_certificate_of_another_authority(real: RealApiServer, file: Path, other_authority: Path) -> None:
    kubeconfig(file, real)
    edit(file, cluster={"server": real.url, "certificate-authority": str(other_authority)})
    words = r"TLS failed \(.*certificate.*\); check the cluster's certificate authority"
    with pytest.raises(AdapterError, match=words) as caught:
        bound(file).identity(soon())
    assert real.token("admin") not in str(caught.value)


@needs_apiserver
def test_no_authority_at_all(real: RealApiServer, file: Path) -> None:
    kubeconfig(file, real)
    edit(file, cluster={"server": real.url})
    with pytest.raises(AdapterError, match="TLS failed"):
        bound(file).identity(soon())


@needs_apiserver
def test_a_host_that_the_certificate_does_not_name(real: RealApiServer, file: Path) -> None:
    kubeconfig(file, real)
    edit(
        file, cluster={"server": real.url.replace("127.0.0.1", "localhost"), "certificate-authority": str(real.ca_file)}
    )
    with pytest.raises(AdapterError, match="TLS failed"):
        bound(file).identity(soon())
    named = {"server": real.url.replace("127.0.0.1", "localhost"), "certificate-authority": str(real.ca_file)}
    edit(file, cluster=named | {"tls-server-name": "127.0.0.1"})
    assert bound(file).identity(soon())


@needs_apiserver
def test_tls_against_a_server_that_speaks_none(file: Path) -> None:
    with FakeApiServer() as server:
        kubeconfig(file, server)
        edit(file, cluster={"server": server.url.replace("http", "https")})
        with pytest.raises(AdapterError, match="TLS failed"):
            bound(file).identity(soon())


@needs_apiserver
def test_plain_http_to_a_server_that_speaks_tls(real: RealApiServer, file: Path) -> None:
    kubeconfig(file, real)
    edit(file, cluster={"server": real.url.replace("https", "http")})
    with pytest.raises(AdapterError) as caught:
        bound(file).identity(soon())
    assert "label_selector" not in str(caught.value), "a remedy that leads astray"


# Unreachable


@needs_apiserver
def test_a_frozen_server(real: RealApiServer, file: Path, tmp_path: Path) -> None:
    with FaultFront(real) as front:
        through = bound(kubeconfig(tmp_path / "through", front))
        direct, opened = bound(kubeconfig(file, real)), bound(kubeconfig(file, real))
        opened.identity(soon())
        real.freeze()
        try:
            for scope in (through, direct, opened):
                began = time.monotonic()
                with pytest.raises(AdapterError, match=r"timed out after 1\.0 s") as caught:
                    scope.observe([flow_run("default:otter")], soon(1.0))
                assert time.monotonic() - began < 2.0
                assert not isinstance(caught.value, Misconfigured)
            assert len(front.calls) == 1
        finally:
            real.thaw()
        wait_until(lambda: direct.identity(soon()), "the cluster answers again", 20)
        assert direct.identity(soon()) == opened.identity(soon())


def test_a_cluster_that_goes_and_comes_back(cluster: Cluster, front: FaultFront, file: Path) -> None:
    scope = bound(kubeconfig(file, front))
    assert scope.identity(soon()) == uid_of(cluster)
    front.inject(Fault.RESET)
    for _ in range(3):
        with pytest.raises(AdapterError, match="the connection broke off"):
            scope.identity(soon())
    front.heal()
    assert scope.identity(soon()) == uid_of(cluster)


def test_an_address_that_moves(api_server: ApiServer, cluster: Cluster, file: Path) -> None:
    """The kubeconfig is read again after a failure."""
    kubeconfig(file, api_server)
    place = yaml.safe_load(file.read_text())["clusters"][0]["cluster"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        edit(file, cluster=place | {"server": f"http://127.0.0.1:{free.getsockname()[1]}"})
        scope = bound(file)
        with pytest.raises(AdapterError, match="the connection was refused"):
            scope.identity(soon())
    edit(file, cluster=place)
    assert scope.identity(soon()) == uid_of(cluster)


# Discovery


class TestDiscovery:
    def test_a_live_cluster(self, front: FaultFront, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(file, front)))
        assert KubernetesScope.discover() == {}
        wait_until(lambda: not front._listener.open, "its connections are closed", 5)

    def test_one_that_may_not_be_read(
        self, api_server: ApiServer, cluster: Cluster, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(file, api_server, "reader")))
        assert KubernetesScope.discover() is None
        cluster.grant("reader", READ_ALL)
        assert KubernetesScope.discover() == {}, "nodes are not needed"

    @pytest.mark.parametrize("fault", list(Fault))
    def test_whatever_goes_wrong_it_is_quick_and_raises_nothing(
        self, front: FaultFront, file: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
    ) -> None:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(file, front)))
        front.inject(fault, verb="*")
        began = time.monotonic()
        assert KubernetesScope.discover() is None
        assert time.monotonic() - began < 4
        front.heal()

    def test_one_that_is_slow_to_say_what_is_allowed(
        self, front: FaultFront, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(file, front)))
        monkeypatch.setattr(kubernetes_scope, "_DISCOVERY_SECONDS", 0.5)
        front.inject(Fault.TIMEOUT, verb="POST")
        began = time.monotonic()
        assert KubernetesScope.discover() is None
        assert time.monotonic() - began < 2.5
        front.heal()


@needs_apiserver
@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_verification_that_is_switched_off(real: RealApiServer, file: Path) -> None:
    kubeconfig(file, real)
    edit(file, cluster={"server": real.url, "insecure-skip-tls-verify": True})
    assert bound(file).identity(soon())


@needs_apiserver
def test_an_authority_within_the_kubeconfig(real: RealApiServer, file: Path) -> None:
    kubeconfig(file, real)
    assert real.ca_file
    data = base64.b64encode(real.ca_file.read_bytes()).decode()
    edit(file, cluster={"server": real.url, "certificate-authority-data": data})
    assert bound(file).identity(soon())
