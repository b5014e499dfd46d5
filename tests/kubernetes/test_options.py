"""What an operator may write for a Kubernetes scope, and what is found without any configuration."""

from __future__ import annotations

import builtins
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.looking import Asker, look
from reconciler.model import RunMapping
from reconciler.ports import AdapterError, BoundScope, Misconfigured
from reconciler_adapters.kubernetes import KubernetesScope
from reconciler_adapters.kubernetes import cluster as kubernetes_cluster
from reconciler_adapters.kubernetes import scope as kubernetes_scope
from tests.kubernetes.kubeconfigs import SECRET, kubeconfig, program

pytestmark = pytest.mark.usefixtures("bare_machine")


def soon(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


class TestOptions:
    @pytest.mark.parametrize(
        ("given", "nearest"),
        [
            ("namespace", "namespaces"),
            ("kube_config", "kubeconfig"),
            ("contexts", "context"),
            ("labels", "label_selector"),
            ("cluster", "cluster_name"),
        ],
    )
    def test_an_unknown_option_names_the_nearest(self, given: str, nearest: str) -> None:
        words = rf"^scope 'a': adapter 'kubernetes' has no option '{given}'; the nearest is '{nearest}'$"
        with pytest.raises(Misconfigured, match=words):
            KubernetesScope("a", {given: "x"})

    @pytest.mark.parametrize("option", ["kubeconfig", "context", "label_selector", "cluster_name"])
    @pytest.mark.parametrize("value", ["", 7, None, True, ["x"], {"password": SECRET}])
    def test_a_text_must_be_one(self, option: str, value: object) -> None:
        with pytest.raises(Misconfigured, match=f"^scope 'a': option '{option}' must be a text") as caught:
            KubernetesScope("a", {option: value})
        assert SECRET not in str(caught.value)

    @pytest.mark.parametrize("value", ["prefect", [], [""], ["a", 7], None, {"a": SECRET}, 7])
    def test_namespaces_must_be_a_list_of_texts(self, value: object) -> None:
        with pytest.raises(Misconfigured, match=r"^scope 'a': option 'namespaces' must be a list") as caught:
            KubernetesScope("a", {"namespaces": value})
        assert SECRET not in str(caught.value)

    @pytest.mark.parametrize("value", ["a/b", "*", "A", "a b", "../x", "a?x=1", "-a", "a-", "é", "a" * 64])
    def test_namespaces_must_be_names(self, value: str) -> None:
        with pytest.raises(Misconfigured, match=r"^scope 'a': option 'namespaces' holds '"):
            KubernetesScope("a", {"namespaces": ["prefect", value]})

    @pytest.mark.parametrize("value", ["a", "a-b", "0", "team-7", "a" * 63])
    def test_names_of_namespaces(self, value: str) -> None:
        assert KubernetesScope("a", {"namespaces": [value]}).name == "a"

    def test_no_options_are_fine_and_nothing_is_read_yet(self) -> None:
        scope = KubernetesScope("a", {})
        scope.close()
        assert scope.worker_types == {"kubernetes"}


class TestKubeconfig:
    def test_one_that_is_missing_is_named(self, file: Path) -> None:
        scope = KubernetesScope("a", {"kubeconfig": str(file)})
        with pytest.raises(
            Misconfigured, match=rf"^the Kubernetes credentials in {file} cannot be used: .*`kubeconfig`"
        ):
            scope.identity(soon())
        assert [problem.optional for problem in scope.check()] == [False]

    def test_none_at_all(self, tmp_path: Path) -> None:
        with pytest.raises(Misconfigured, match=f"{tmp_path}/home/.kube/config cannot be used"):
            KubernetesScope("a", {}).identity(soon())

    @pytest.mark.parametrize(
        "content",
        [
            "",
            "\n# nothing\n",
            "just a text",
            "- a\n- list\n",
            "{unclosed",
            "a: b: c",
            "\x00\x01",
            "!!python/object/apply:os.system [true]",
            "apiVersion: v1\nkind: Config\n",
            "clusters: 7\ncontexts: []\nusers: []\ncurrent-context: x\n",
            "clusters: null\ncontexts: null\nusers: null\ncurrent-context: null\n",
        ],
    )
    def test_one_that_is_none(self, write: Callable[[object], KubernetesScope], content: str) -> None:
        with pytest.raises(Misconfigured, match="cannot be used"):
            write(content).identity(soon())

    def test_one_that_is_not_text(self, file: Path) -> None:
        file.write_bytes(b"\xff\xfe\x00\x01" * 100)
        with pytest.raises(Misconfigured, match="cannot be used"):
            KubernetesScope("a", {"kubeconfig": str(file)}).identity(soon())

    def test_one_that_is_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(Misconfigured, match="cannot be used"):
            KubernetesScope("a", {"kubeconfig": str(tmp_path)}).identity(soon())

    @pytest.mark.parametrize("missing", ["clusters", "contexts", "current-context"])
    def test_a_part_that_is_missing(self, write: Callable[[object], KubernetesScope], missing: str, dead: str) -> None:
        content = kubeconfig(dead)
        del content[missing]
        with pytest.raises(Misconfigured, match="cannot be used"):
            write(content).identity(soon())

    @pytest.mark.parametrize(
        "url", ["", "nonsense", "ftp://127.0.0.1", "http://", "http://[", "http://127.0.0.1:99999"]
    )
    def test_an_address_that_is_none(self, write: Callable[[object], KubernetesScope], url: str) -> None:
        with pytest.raises(AdapterError):
            write(kubeconfig(url)).identity(soon())

    @pytest.mark.parametrize(
        "user",
        [
            {"tokenFile": "/nowhere/token"},
            {"token": SECRET, "client-certificate": "/nowhere/cert"},
            {"client-certificate-data": "bm90IGEgY2VydA==", "client-key-data": "bm90IGEga2V5"},
            {"token": ["a", "list"]},
            {"token": f"{SECRET}\r\nX-Evil: 1"},
            {"token": f"é{SECRET}\u2028"},
            {"exec": {"apiVersion": "client.authentication.k8s.io/v1"}},
            {"auth-provider": {"name": "gcp"}},
            7,
        ],
    )
    def test_credentials_that_are_none(
        self, write: Callable[[object], KubernetesScope], user: object, dead: str
    ) -> None:
        content = kubeconfig(dead)
        content["users"][0]["user"] = user
        with pytest.raises(AdapterError) as caught:
            write(content).identity(soon())
        assert SECRET not in str(caught.value)

    def test_a_file_of_an_authority_that_is_none(
        self, write: Callable[[object], KubernetesScope], file: Path, dead: str
    ) -> None:
        content = kubeconfig(dead.replace("http", "https"))
        content["clusters"][0]["cluster"]["certificate-authority"] = str(file)
        with pytest.raises(AdapterError):
            write(content).identity(soon())

    def test_the_file_is_never_written(self, write: Callable[[object], KubernetesScope], file: Path, dead: str) -> None:
        scope = write(kubeconfig(dead))
        before = file.read_bytes(), file.stat().st_mtime_ns
        with pytest.raises(AdapterError):
            scope.identity(soon())
        assert (file.read_bytes(), file.stat().st_mtime_ns) == before


class TestReachability:
    def test_a_refused_connection(self, write: Callable[[object], KubernetesScope], dead: str) -> None:
        words = f"^Kubernetes API at {dead}: the connection was refused; see that the API server runs"
        with pytest.raises(AdapterError, match=words) as caught:
            write(kubeconfig(dead)).identity(soon())
        assert not isinstance(caught.value, Misconfigured), "it may come back by itself"

    def test_a_name_that_is_not_known(
        self, write: Callable[[object], KubernetesScope], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unknown(*_: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        with pytest.raises(AdapterError, match="its host name cannot be resolved"):
            write(kubeconfig("https://cluster.invalid:6443")).identity(soon())

    def test_a_silent_address(self, write: Callable[[object], KubernetesScope], silent: str) -> None:
        began = time.monotonic()
        with pytest.raises(AdapterError, match=r"timed out after 0\.5 s"):
            write(kubeconfig(silent)).identity(soon(0.5))
        assert time.monotonic() - began < 1.5

    def test_silence_in_place_of_tls(self, write: Callable[[object], KubernetesScope], silent: str) -> None:
        began = time.monotonic()
        with pytest.raises(AdapterError, match="timed out"):
            write(kubeconfig(silent.replace("http", "https"))).identity(soon(0.5))
        assert time.monotonic() - began < 1.5


class TestExecPlugins:
    @pytest.mark.parametrize("script", ["exit 3", "echo nonsense", "echo '{}'", "kill -9 $$"])
    def test_one_that_fails(
        self, write: Callable[[object], KubernetesScope], tmp_path: Path, dead: str, script: str
    ) -> None:
        plugin = program(tmp_path / "plugin", f"echo {SECRET} >&2\n{script}")
        with pytest.raises(AdapterError):
            write(kubeconfig(dead, exec=plugin)).identity(soon())

    def test_one_that_does_not_exist(self, write: Callable[[object], KubernetesScope], dead: str) -> None:
        plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "/nowhere/plugin"}
        with pytest.raises(AdapterError):
            write(kubeconfig(dead, exec=plugin)).identity(soon())

    def test_one_that_hangs_is_bounded_by_the_core(
        self, write: Callable[[object], KubernetesScope], tmp_path: Path, dead: str
    ) -> None:
        go = tmp_path / "go"
        plugin = program(tmp_path / "plugin", f"while [ ! -e {go} ]; do sleep 0.1; done; exit 1")
        asker = Asker(BoundScope(write(kubeconfig(dead, exec=plugin)), "kubernetes", RunMapping()))
        began = time.monotonic()
        answer = look([asker], {}, 0.5)["lab"]
        assert time.monotonic() - began < 2
        assert answer.hangs
        assert answer.identity is None
        assert look([asker], {}, 0.5)["lab"].hangs, "no second plugin is started"
        go.touch()
        assert asker._call
        assert asker._call.done.wait(10)


class TestDiscovery:
    def test_nothing_is_found(self) -> None:
        assert KubernetesScope.discover() is None

    def test_a_missing_kubeconfig(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KUBECONFIG", "/nowhere/kubeconfig")
        assert KubernetesScope.discover() is None

    @pytest.mark.parametrize("content", ["", "{unclosed", "just a text", "\x00"])
    def test_a_kubeconfig_that_is_none(self, file: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
        file.write_text(content)
        monkeypatch.setenv("KUBECONFIG", str(file))
        assert KubernetesScope.discover() is None

    def test_a_dead_address_is_given_up_at_once(self, file: Path, dead: str, monkeypatch: pytest.MonkeyPatch) -> None:
        file.write_text(yaml.safe_dump(kubeconfig(dead)))
        monkeypatch.setenv("KUBECONFIG", str(file))
        began = time.monotonic()
        assert KubernetesScope.discover() is None
        assert time.monotonic() - began < 1.5

    def test_a_silent_address_is_given_up_soon(self, file: Path, silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
        file.write_text(yaml.safe_dump(kubeconfig(silent)))
        monkeypatch.setenv("KUBECONFIG", str(file))
        began = time.monotonic()
        assert KubernetesScope.discover() is None
        assert time.monotonic() - began < 3

    def test_a_plugin_that_hangs_is_left_behind(
        self, file: Path, dead: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        go = tmp_path / "go"
        plugin = program(tmp_path / "plugin", f"while [ ! -e {go} ]; do sleep 0.1; done; exit 1")
        file.write_text(yaml.safe_dump(kubeconfig(dead, exec=plugin)))
        monkeypatch.setenv("KUBECONFIG", str(file))
        monkeypatch.setattr(kubernetes_scope, "_DISCOVERY_SECONDS", 0.3)
        began = time.monotonic()
        try:
            assert KubernetesScope.discover() is None
            assert time.monotonic() - began < 1.5
        finally:
            go.touch()

    def test_an_account_that_is_half_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A token, but neither the file with the namespace nor a certificate."""
        account = tmp_path / "account"
        account.mkdir()
        (account / "token").write_text(SECRET)
        monkeypatch.setattr(kubernetes_cluster, "_SERVICE_ACCOUNT", account)
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        assert KubernetesScope.discover() is None


class TestSdk:
    @pytest.fixture
    def without_sdk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = builtins.__import__

        def without(name: str, *rest: Any) -> Any:
            if name.partition(".")[0] == "kubernetes":
                raise ImportError(f"No module named '{name}'")
            return real(name, *rest)

        monkeypatch.setattr(builtins, "__import__", without)

    def test_a_missing_one_is_said(self, without_sdk: None) -> None:
        words = r"^scope 'a': adapter 'kubernetes' needs its SDK: pip install 'prefect-reconciler\[kubernetes\]'$"
        with pytest.raises(Misconfigured, match=words):
            KubernetesScope("a", {})

    def test_discovery_without_it(
        self, without_sdk: None, file: Path, dead: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file.write_text(yaml.safe_dump(kubeconfig(dead)))
        monkeypatch.setenv("KUBECONFIG", str(file))
        assert KubernetesScope.discover() is None

    @pytest.mark.parametrize(
        "module",
        ["reconciler_adapters.docker", "reconciler_adapters.kubernetes", "reconciler.cli", "reconciler.station"],
    )
    def test_it_is_imported_only_when_a_scope_needs_it(self, module: str) -> None:
        code = f"import sys, {module}; sys.exit(bool({{'kubernetes', 'urllib3', 'yaml'}} & set(sys.modules)))"
        assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0

    def test_credentials_as_every_client_keeps_them(self) -> None:
        """Client 35 knows no other name for them than `authorization`."""
        from kubernetes.client import Configuration
        from urllib3 import PoolManager

        configuration = Configuration()
        configuration.host = "http://127.0.0.1:1/"
        connection = kubernetes_cluster.Connection(configuration, PoolManager(), "lab")
        assert connection.headers() == {}
        configuration.api_key["authorization"] = f"Bearer {SECRET}"
        assert connection.headers() == {"Authorization": f"Bearer {SECRET}"}
        assert connection.url == "http://127.0.0.1:1"
        assert SECRET not in repr(connection), "a connection may be shown in a trace"
        connection.close()


def test_a_closed_scope_may_be_closed_again_and_asked_again(
    write: Callable[[object], KubernetesScope], dead: str
) -> None:
    scope = write(kubeconfig(dead))
    for _ in range(2):
        with pytest.raises(AdapterError, match="refused"):
            scope.identity(soon())
        scope.close()
        scope.close()
