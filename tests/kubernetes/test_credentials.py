"""What stands in a kubeconfig is told to the server alone; credentials are asked for once; no key is left in a file."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.ports import AdapterError, Misconfigured
from reconciler.testing import flow_run
from reconciler_adapters.kubernetes import KubernetesScope
from reconciler_adapters.kubernetes import cluster as kubernetes_cluster
from tests.kubernetes.apiserver.cluster import Cluster
from tests.kubernetes.apiserver.front import FaultFront
from tests.kubernetes.apiserver.server import ApiServer
from tests.kubernetes.kubeconfigs import SECRET, kubeconfig, program

pytestmark = pytest.mark.usefixtures("bare_machine")
Write = Callable[[object], KubernetesScope]


def soon(seconds: float = 10.0) -> float:
    return time.monotonic() + seconds


def refusal(scope: KubernetesScope) -> str:
    """What the operator is told, here and by `reconcile check`."""
    with pytest.raises(AdapterError) as caught:
        scope.identity(soon())
    [problem] = scope.check()
    assert SECRET not in problem.text
    assert SECRET not in str(caught.value)
    return str(caught.value)


# Nothing of a kubeconfig is quoted


def as_text(users: str, url: str) -> str:
    content = kubeconfig(url)
    del content["users"]
    return f"{yaml.safe_dump(content)}users:\n{users}\n"


USERS = {
    "a token in the wrong place": f"- name: me\n  token: {SECRET}",
    "an alias": f"- name: me\n  user:\n    token: *{SECRET}",
    "a percent sign": f"- name: me\n  user:\n    token: %{SECRET}",
    "a tag": f"- name: me\n  user:\n    token: !{SECRET} x",
    "a quotation without an end": f'- name: me\n  user:\n    token: "{SECRET}',
    "a colon too many": f"- name: me\n  user: token: {SECRET}",
    "a tab": f"- name: me\n  user:\n\ttoken: {SECRET}",
    "a list for a token": f"- name: me\n  user: {{token: [{SECRET}]}}",
    "a map for a token": f"- name: me\n  user: {{token: {{{SECRET}: 1}}}}",
    "a list for a user": f"- name: me\n  user: [{{token: {SECRET}}}]",
    "a text for a user": f"- name: me\n  user: {SECRET}",
    "no name": f"- user: {{token: {SECRET}}}",
    "a name misspelt": f"- name: you\n  user: {{token: {SECRET}}}\n- nom: me\n  user: {{token: {SECRET}}}",
    "two of a name": f"- name: me\n  user: {{token: {SECRET}}}\n- name: me\n  user: {{token: {SECRET}}}",
    "a text for all": f"  {SECRET}",
    "no base64": f"- name: me\n  user: {{client-certificate-data: {SECRET}, client-key-data: {SECRET}}}",
    "a password": f"- name: me\n  user: {{username: joe, password: {SECRET}}}",
    "a password that is no text": f"- name: me\n  user: {{username: {SECRET}, password: 12345}}",
    "a token of two lines": f"- name: me\n  user:\n    token: |\n      {SECRET}\n      {SECRET}",
    "a token of other letters": f'- name: me\n  user: {{token: "{SECRET}\u0142"}}',
    "an exec without a command": f"- name: me\n  user: {{exec: {{env: [{{name: A, value: {SECRET}}}]}}}}",
    "an auth-provider": f"- name: me\n  user: {{auth-provider: {{name: oidc, config: {{id-token: {SECRET}}}}}}}",
}


@pytest.mark.parametrize("case", USERS)
def test_no_user_of_a_kubeconfig_is_quoted(write: Write, dead: str, case: str) -> None:
    told = refusal(write(as_text(USERS[case], dead)))
    assert "cannot be used" in told or "token" in told or "refused" in told


def test_what_is_not_yaml_is_told_by_its_line(write: Write, file: Path, dead: str) -> None:
    text = as_text(USERS["an alias"], dead)
    line = text.splitlines().index(f"    token: *{SECRET}") + 1
    words = f"the Kubernetes credentials in {file} cannot be used: line {line} is not YAML; see the options"
    assert words in refusal(write(text))


@pytest.mark.parametrize("content", [f"{SECRET}", f"- {SECRET}\n", f"{SECRET}: [\n", f"a: {SECRET}: b\n"])
def test_no_file_is_quoted_that_is_no_kubeconfig(write: Write, content: str) -> None:
    assert "cannot be used" in refusal(write(content))


@pytest.mark.parametrize("script", [f"echo {SECRET}", f"echo {SECRET} >&2; exit 3", f'echo \'{{"a": "{SECRET}"}}\''])
def test_no_word_of_a_plugin_is_quoted(write: Write, tmp_path: Path, dead: str, script: str) -> None:
    refusal(write(kubeconfig(dead, exec=program(tmp_path / "plugin", script))))


@pytest.mark.parametrize(
    "token", [f"é{SECRET}", f"{SECRET}\u0142", f"{SECRET}\n{SECRET}", f"{SECRET}\x7f", f"{SECRET}\r\nX-Evil: 1"]
)
def test_a_token_that_cannot_be_sent_is_refused_and_not_sent(api_server: ApiServer, write: Write, token: str) -> None:
    with FaultFront(api_server) as front:
        words = "the Kubernetes token holds what cannot be sent: write it anew, on one line"
        scope = write(kubeconfig(front.url, token=token))
        with pytest.raises(Misconfigured, match=f"^{words}$"):
            scope.identity(soon())
        assert refusal(scope) == words
        assert front.calls == []


@pytest.mark.parametrize("path", ["", "/k8s", f"/k8s?token={SECRET}", f"/k8s#{SECRET}"])
def test_an_address_is_shown_without_what_may_be_a_password(write: Write, dead: str, path: str) -> None:
    place = dead.removeprefix("http://")
    shown = f"http://{place}{path.partition('?')[0].partition('#')[0]}"
    for user in ("", f"joe:{SECRET}@", f"{SECRET}@", f"joe:{SECRET}@{SECRET}@"):
        told = refusal(write(kubeconfig(f"http://{user}{place}{path}")))
        assert told.startswith(f"Kubernetes API at {shown}: ")


# A user without credentials


@pytest.mark.parametrize("script", ["exit 3", "echo nonsense", "echo '{}'", "sleep 0; kill -9 $$"])
def test_a_plugin_that_gives_nothing_is_said_to(
    api_server: ApiServer, write: Write, tmp_path: Path, script: str
) -> None:
    """The client goes on without it, and the server answers an anonymous request."""
    scope = write(kubeconfig(api_server.url, exec=program(tmp_path / "plugin", script)) | authority(api_server))
    with pytest.raises(Misconfigured, match=r"it answered 40[13] .*; the kubeconfig's user gave no credentials: see "):
        scope.identity(soon())


def test_who_sent_a_token_is_told_of_the_token(api_server: ApiServer, cluster: Cluster, write: Write) -> None:
    for token, words in ((SECRET, "its credentials are not valid"), (api_server.token("reader"), "grant it; ")):
        scope = write(kubeconfig(api_server.url, token=token) | authority(api_server))
        assert words in refusal_of_the_server(scope)


def refusal_of_the_server(scope: KubernetesScope) -> str:
    with pytest.raises(Misconfigured) as caught:
        scope.identity(soon())
    return str(caught.value)


def authority(server: ApiServer) -> dict[str, Any]:
    place = {"server": server.url} | ({"certificate-authority": str(server.ca_file)} if server.ca_file else {})
    return {"clusters": [{"name": "lab", "cluster": place}]}


# Asked for once


def test_a_plugin_is_run_at_most_twice_in_a_conversation(cluster: Cluster, write: Write, tmp_path: Path) -> None:
    """Once to connect, once more since its token is soon over: not for each call."""
    server, log = cluster._server, tmp_path / "log"
    said = '"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"'
    script = f"""echo x >> {log}
until=$(date -u -d '+4 minutes' +%Y-%m-%dT%H:%M:%SZ)
echo '{{{said}, "status": {{"token": "{server.token("admin")}", "expirationTimestamp": "'$until'"}}}}'"""
    scope = write(kubeconfig(server.url, exec=program(tmp_path / "plugin", script)) | authority(server))
    scope.identity(soon())
    for _ in range(2):
        log.write_text("")
        scope.observe([flow_run(f"default:otter-{number}") for number in range(10)], soon())
        assert len(log.read_text().splitlines()) in {1, 2}
    scope.close()


class Client36:
    """The configuration of client 36.0.0, as far as tokens go: kept under a name that its settings do not know."""

    host, cert_file, key_file = "http://127.0.0.1:1", None, None

    def __init__(self) -> None:
        self.api_key = {"authorization": f"Bearer {SECRET}"}
        self.renewed = 0

    def get_api_key_with_prefix(self, identifier: str, alias: str | None = None) -> str | None:
        self.renewed += 1
        return self.api_key.get(identifier, self.api_key.get(alias or ""))

    def auth_settings(self) -> dict[str, dict[str, str]]:
        if "BearerToken" not in self.api_key:
            return {}
        return {"BearerToken": {"value": str(self.get_api_key_with_prefix("BearerToken"))}}


def test_the_token_of_client_36() -> None:
    configuration = Client36()
    connection = kubernetes_cluster.Connection(configuration, None, None)  # type: ignore[arg-type]
    assert connection.headers() == {"Authorization": f"Bearer {SECRET}"}
    assert configuration.renewed == 1, "its hook, which renews the token, is called"
    assert connection.hide(f"you sent Bearer {SECRET}") == "you sent Bearer ***"
    configuration.api_key = {}
    assert connection.headers() == {}


# No key is left in a file


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the client keeps keys from within kubeconfigs."""
    from kubernetes.config import kube_config

    keys = tmp_path / "keys"
    keys.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(keys))
    monkeypatch.setattr(kube_config, "_temp_files", {})
    return keys


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A client certificate and its key, as a plugin gives them; each time with other words, so another file."""
    out, key = tmp_path / "client.pem", tmp_path / "client.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subprocess.run([*command, "-subj", "/CN=me", "-keyout", key, "-out", out], check=True, capture_output=True)
    lines = [path.read_text().strip().replace("\n", "\\n") for path in (out, key)]
    said = '"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"'
    pair = f'"clientCertificateData": "\'$$\'\\n{lines[0]}\\n", "clientKeyData": "\'$$\'\\n{lines[1]}\\n"'
    script = tmp_path / "script"
    script.write_text(f"printf '%s' '{{{said}, \"status\": {{{pair}}}}}'")
    return script


def test_keys_that_change_each_time_do_not_pile_up(
    write: Write, tmp_path: Path, dead: str, keys: Path, certificate: Path
) -> None:
    plugin = program(tmp_path / "plugin", certificate.read_text())
    scope = write(kubeconfig(dead.replace("http", "https"), exec=plugin))
    seen: set[Path] = set()
    for number in range(1, 6):
        with pytest.raises(AdapterError, match="the connection was refused"):
            scope.identity(soon())
        left = set(keys.iterdir())
        assert len(left) == 2, "the certificate and the key of the last connection"
        seen |= left
        assert len(seen) == 2 * number


def test_keys_that_stay_are_kept(write: Write, tmp_path: Path, dead: str, keys: Path, certificate: Path) -> None:
    """Two scopes of one user share the client's files: what one of them opens anew, the other still uses."""
    script = certificate.read_text().replace("'$$'", "1")
    plugin = program(tmp_path / "plugin", script)
    one = write(kubeconfig(dead.replace("http", "https"), exec=plugin))
    other = write(kubeconfig(dead.replace("http", "https"), exec=plugin))
    refusal(one)
    before = {path: path.read_text() for path in keys.iterdir()}
    for scope in (other, one, one, other):
        refusal(scope)
        assert {path: path.read_text() for path in keys.iterdir()} == before


def test_a_user_who_has_a_certificate_is_not_anonymous(
    api_server: ApiServer, write: Write, tmp_path: Path, keys: Path, certificate: Path
) -> None:
    plugin = program(tmp_path / "plugin", certificate.read_text())
    scope = write(kubeconfig(api_server.url, exec=plugin) | authority(api_server))
    told = refusal_of_the_server(scope)
    assert "gave no credentials" not in told
