"""Entry points -> scopes: what the configuration names, or what is found on this machine when there is none."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol, cast

from reconciler.model import RunMapping
from reconciler.ports import BoundScope, Misconfigured, Scope, ScopeFactory

GROUP = "reconciler.adapters"

# The extra of this distribution that brings an adapter's SDK; any other adapter is its own extra.
_EXTRAS = {"ecs": "aws", "cloud_run": "gcp", "container_instances": "azure"}
_KINDS = ("work_pools", "work_queues", "workers", "tags")


class ScopeSpec(Protocol):
    """What an operator says about one scope; `reconciler.settings.ScopeSettings` is one."""

    @property
    def name(self) -> str: ...
    @property
    def adapter(self) -> str: ...
    @property
    def identity(self) -> str | None: ...
    @property
    def options(self) -> Mapping[str, object]: ...
    @property
    def observes(self) -> bool: ...
    def mapping(self, worker_types: Collection[str], /) -> RunMapping: ...


@dataclass(frozen=True, slots=True)
class Discovered:
    """The places found on this machine, and a sentence for each adapter that was skipped."""

    scopes: tuple[BoundScope, ...]
    notes: tuple[str, ...]


def factories() -> Mapping[str, EntryPoint]:
    """Every registered adapter by name, none of them imported. Two different ones of a name are Misconfigured."""
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise Misconfigured(
                f"two installed packages register an adapter '{entry.name}' ({other.value} and {entry.value}); "
                "uninstall one of them"
            )
    return found


def load(adapter: str) -> ScopeFactory:
    """Import an adapter. Raises Misconfigured with the known names, or with what to install."""
    known = factories()
    if adapter not in known:
        close = get_close_matches(adapter, known, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        raise Misconfigured(f"there is no adapter '{adapter}' (installed: {', '.join(sorted(known))}){hint}")
    entry = known[adapter]
    try:
        factory = entry.load()
    except ImportError as error:
        raise Misconfigured(_install(adapter, error)) from error
    except AttributeError as error:
        raise Misconfigured(f"adapter '{adapter}': its entry point {entry.value} names nothing that exists") from error
    if not callable(factory) or isinstance(getattr(factory, "worker_types", ""), str):
        raise Misconfigured(f"adapter '{adapter}': {entry.value} is no scope factory with a set of worker_types")
    return cast("ScopeFactory", factory)


def bind(specs: Sequence[ScopeSpec]) -> list[BoundScope]:
    """Build every scope. Raises one Misconfigured with a line for each that cannot be; then none stays open."""
    bound: list[BoundScope] = []
    problems: list[str] = []
    with ExitStack() as undo:
        for spec in specs:
            try:
                one = _bind(spec)
            except Misconfigured as error:
                problems.append(_about(spec, str(error)))
            else:
                undo.callback(one.scope.close)
                bound.append(one)
        if problems:
            raise Misconfigured("\n".join(problems))
        undo.pop_all()
    return bound


def discover() -> Discovered:
    """Ask every registered adapter for a place on this machine: mapped by worker type, not exclusive, not pinned."""
    scopes, notes = [], []
    for adapter in sorted(factories()):
        try:
            found = _discover(adapter)
        except Misconfigured as error:
            notes.append(f"adapter '{adapter}' was skipped: {error}")
        except Exception as error:  # noqa: BLE001 - one adapter's discovery must not hide what the others found
            notes.append(f"adapter '{adapter}' was skipped: its discovery failed ({type(error).__name__}: {error})")
        else:
            scopes += [found] if found else []
    return Discovered(tuple(scopes), tuple(notes))


def suggested_config(scopes: Sequence[BoundScope], identities: Mapping[str, str] | None = None) -> str:
    """Write the TOML that makes these scopes act. `identities`, by scope name, are pinned."""
    tables = [_table(bound, (identities or {}).get(bound.scope.name) or bound.identity_pin) for bound in scopes]
    return "\n\n".join(['[policy]\nmode = "settle"', *tables]) + "\n"


def _bind(spec: ScopeSpec) -> BoundScope:
    factory = load(spec.adapter)
    scope = _build(factory, spec.adapter, spec.name, spec.options)
    mapping = spec.mapping(factory.worker_types)
    return BoundScope(scope, spec.adapter, mapping, spec.identity, spec.options, spec.observes)


def _discover(adapter: str) -> BoundScope | None:
    factory = load(adapter)
    options = factory.discover()
    if options is None:
        return None
    mapping = RunMapping(worker_types=frozenset(factory.worker_types))
    return BoundScope(_build(factory, adapter, adapter, options), adapter, mapping, None, options)


def _build(factory: ScopeFactory, adapter: str, name: str, options: Mapping[str, object]) -> Scope:
    try:
        return factory(name, options)
    except ImportError as error:  # an adapter imports its SDK late
        raise Misconfigured(_install(adapter, error)) from error


def _install(adapter: str, error: ImportError) -> str:
    extra = _EXTRAS.get(adapter, adapter)
    return f"adapter '{adapter}' cannot be imported ({error}): pip install 'prefect-reconciler[{extra}]'"


def _about(spec: ScopeSpec, text: str) -> str:
    return text if f"scope '{spec.name}'" in text else f"scope '{spec.name}': {text}"


def _table(bound: BoundScope, identity: str | None) -> str:
    given = [(kind, sorted(getattr(bound.mapping, kind))) for kind in _KINDS if getattr(bound.mapping, kind)]
    lines = ["[[scopes]]", f"name = {_toml(bound.scope.name)}", f"adapter = {_toml(bound.adapter)}"]
    lines += [f"{kind} = {_toml(names)}" for kind, names in given]
    if not given:
        types = ", ".join(sorted(bound.mapping.worker_types))
        lines.append(f'# work_pools = ["..."]  # the pools that run here; without: every run of worker type {types}')
    if bound.mapping.exclusive:
        lines.append("exclusive = true")
    else:
        lines.append("# exclusive = true  # only if these runs can be nowhere else; then absence here counts")
    if bound.observes:
        lines.append('mode = "observe"')
    if identity:
        lines.append(f"identity = {_toml(identity)}")
    if bound.options:
        lines.append(f"options = {_toml(bound.options)}")
    return "\n".join(lines)


def _toml(value: object) -> str:
    """Write a value in one line; what TOML has no form for is written as text."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, Mapping):
        pairs = [f"{_key(str(key))} = {_toml(inner)}" for key, inner in value.items() if inner is not None]
        return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    if isinstance(value, list | tuple | set | frozenset):
        return f"[{', '.join(_toml(inner) for inner in value)}]"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name)
