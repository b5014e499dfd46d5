"""Entry points to scopes: what is named, what is missing, what is found without a configuration."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from reconciler import registry
from reconciler.model import FlowRun, Place, RunMapping, Seen
from reconciler.ports import BoundScope, Misconfigured, Problem
from reconciler.settings import load as load_settings

CLOSED: list[str] = []


class Engine:
    """A scope that does nothing but remember."""

    worker_types: Collection[str] = frozenset({"docker"})

    def __init__(self, name: str, options: Mapping[str, object]) -> None:
        if "bad" in options:
            raise Misconfigured(f"scope '{name}': option 'bad' is bad")
        if "rude" in options:
            raise Misconfigured("option 'rude' is bad")
        self.name = name
        self.options = options

    @classmethod
    def discover(cls) -> Mapping[str, object] | None:
        return {"base_url": "unix:///x"}

    def identity(self, deadline: float) -> str:
        del deadline
        return "ABCD"

    def locate(self, run: FlowRun) -> Place:
        del run
        return Place.UNSAID

    def observe(self, runs: Sequence[FlowRun], deadline: float) -> Seen:
        del runs, deadline
        return Seen(observations={})

    def check(self) -> Sequence[Problem]:
        return ()

    def close(self) -> None:
        CLOSED.append(self.name)


class Absent(Engine):
    worker_types = frozenset({"absent"})

    @classmethod
    def discover(cls) -> Mapping[str, object] | None:
        return None


class Buggy(Engine):
    @classmethod
    def discover(cls) -> Mapping[str, object] | None:
        raise RuntimeError("no luck")


class LateImport(Engine):
    def __init__(self, name: str, options: Mapping[str, object]) -> None:
        raise ImportError("No module named 'boto3'")


class Characters(Engine):
    worker_types = "docker"


@dataclass(frozen=True)
class Spec:
    name: str
    adapter: str = "docker"
    identity: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    pools: frozenset[str] = frozenset()
    observes: bool = False

    def mapping(self, worker_types: Collection[str]) -> RunMapping:
        return RunMapping(work_pools=self.pools, worker_types=frozenset(worker_types))


def install(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    entries = [EntryPoint(name, f"tests.test_registry:{value}", registry.GROUP) for name, value in values.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries if group == registry.GROUP else [])
    CLOSED.clear()


def refusal(adapter: str) -> str:
    with pytest.raises(Misconfigured) as refused:
        registry.load(adapter)
    return str(refused.value)


def test_our_own_adapters_are_registered() -> None:
    values = {name: entry.value for name, entry in registry.factories().items()}
    assert values["docker"] == "reconciler_adapters.docker:DockerScope"
    assert values["process"] == "reconciler_adapters.process:ProcessScope"


def test_loads_an_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, docker="Engine")
    assert registry.load("docker") is Engine


def test_an_unknown_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, process="Engine", docker="Engine")
    assert refusal("dokcer") == "there is no adapter 'dokcer' (installed: docker, process); did you mean 'docker'?"
    assert refusal("zzz") == "there is no adapter 'zzz' (installed: docker, process)"


@pytest.mark.parametrize(
    ("adapter", "extra"),
    [
        ("docker", "docker"),
        ("kubernetes", "kubernetes"),
        ("ecs", "aws"),
        ("cloud_run", "gcp"),
        ("container_instances", "azure"),
        ("acme", "acme"),
    ],
)
def test_a_missing_sdk_says_what_to_install(monkeypatch: pytest.MonkeyPatch, adapter: str, extra: str) -> None:
    entries = [EntryPoint(adapter, "no_such_module_at_all:Scope", registry.GROUP)]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries)
    assert refusal(adapter) == (
        f"adapter '{adapter}' cannot be imported (No module named 'no_such_module_at_all'): "
        f"pip install 'prefect-reconciler[{extra}]'"
    )


def test_an_sdk_imported_late(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, ecs="LateImport")
    with pytest.raises(Misconfigured, match=r"^scope 'x': adapter 'ecs' .*pip install 'prefect-reconciler\[aws\]'$"):
        registry.bind([Spec("x", "ecs")])


def test_an_entry_point_that_names_nothing_of_use(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, gone="NoSuchClass", text="CLOSED", characters="Characters")
    assert "names nothing that exists" in refusal("gone")
    assert "is no scope factory" in refusal("text")
    assert "a set of worker_types" in refusal("characters")


def test_two_packages_with_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [EntryPoint("docker", value, registry.GROUP) for value in ("a:A", "b:B", "a:A")]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries)
    assert "two installed packages register an adapter 'docker' (a:A and b:B); uninstall one" in refusal("docker")
    monkeypatch.setattr(registry, "entry_points", lambda group: [entries[0], entries[2]])
    assert registry.factories() == {"docker": entries[0]}  # an editable install is listed twice


def test_binds_what_the_operator_said(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, docker="Engine")
    spec = Spec("prod-7", identity="ABCD", options={"base_url": "unix:///y"}, pools=frozenset({"p"}))
    (bound,) = registry.bind([spec])
    assert isinstance(bound.scope, Engine)
    assert (bound.scope.name, bound.scope.options) == ("prod-7", {"base_url": "unix:///y"})
    assert (bound.adapter, bound.identity_pin) == ("docker", "ABCD")
    assert bound.mapping == RunMapping(work_pools=frozenset({"p"}), worker_types=frozenset({"docker"}))
    assert CLOSED == []
    assert registry.bind([]) == []


def test_every_scope_that_cannot_be_bound_is_told_and_none_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, docker="Engine")
    specs = [
        Spec("good"),
        Spec("b", options={"bad": 1}),
        Spec("c", options={"rude": 1}),
        Spec("d", adapter="doker"),
        Spec("fine"),
    ]
    with pytest.raises(Misconfigured) as refused:
        registry.bind(specs)
    assert str(refused.value).splitlines() == [
        "scope 'b': option 'bad' is bad",
        "scope 'c': option 'rude' is bad",
        "scope 'd': there is no adapter 'doker' (installed: docker); did you mean 'docker'?",
    ]
    assert CLOSED == ["fine", "good"]


def test_settings_can_be_bound(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, docker="Engine")
    path = tmp_path / "reconciler.toml"
    path.write_text('[api]\nurl = "http://h/api"\n[[scopes]]\nname = "x"\nadapter = "docker"\ntags = ["t"]\n', "utf-8")
    (bound,) = registry.bind(load_settings(path, {"HOME": str(tmp_path)}).settings.scopes)
    assert bound.mapping == RunMapping(tags=frozenset({"t"}), worker_types=frozenset({"docker"}))


def test_discovers_and_says_what_was_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, buggy="Buggy", docker="Engine", absent="Absent", ecs="LateImport", gone="NoSuchClass")
    found = registry.discover()
    (bound,) = found.scopes
    assert (bound.scope.name, bound.adapter, bound.identity_pin) == ("docker", "docker", None)
    assert bound.mapping == RunMapping(worker_types=frozenset({"docker"}))
    assert bound.options == {"base_url": "unix:///x"}
    buggy, ecs, gone = found.notes
    assert buggy == "adapter 'buggy' was skipped: its discovery failed (RuntimeError: no luck)"
    assert ecs.endswith("pip install 'prefect-reconciler[aws]'")
    assert "names nothing that exists" in gone


def suggested(tmp_path: Path, scopes: Sequence[BoundScope], identities: Mapping[str, str] | None = None) -> str:
    """Write a suggestion to a file, with an address before it, and load it as settings."""
    text = registry.suggested_config(scopes, identities)
    path = tmp_path / "reconciler.toml"
    path.write_text(f'[api]\nurl = "http://h/api"\n{text}', encoding="utf-8")
    settings = load_settings(path, {"HOME": str(tmp_path)}).settings
    assert settings.policy.mode == "settle"
    for bound, scope in zip(scopes, settings.scopes, strict=True):
        assert (scope.name, scope.adapter, scope.options) == (bound.scope.name, bound.adapter, bound.options)
        assert scope.mapping(bound.mapping.worker_types) == bound.mapping
    return text


def test_the_suggested_configuration_loads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, docker="Engine")
    text = suggested(tmp_path, registry.discover().scopes, {"docker": "ABCD"})
    assert 'identity = "ABCD"' in text
    assert "# exclusive = true" in text
    assert "every run of worker type docker" in text


def test_a_suggestion_keeps_every_value(tmp_path: Path) -> None:
    options = {
        "text": 'a "quoted" \\ new\nline \x7f é 🚀',
        "yes": True,
        "number": 5,
        "share": 0.5,
        "list": ["a", 1],
        "deep": {"a key": "b", "none": {}},
    }
    mapping = RunMapping(work_pools=frozenset({"b", "a"}), worker_types=frozenset({"docker"}), exclusive=True)
    bound = BoundScope(Engine("x", options), "docker", mapping, "pin", options)
    text = suggested(tmp_path, [bound])
    table = tomllib.loads(text)["scopes"][0]
    assert table["options"] == options
    assert (table["work_pools"], table["exclusive"], table["identity"]) == (["a", "b"], True, "pin")
