"""TOML, environment and profile -> `Settings`, with the origin of every value, and every problem reported at once.

Sources, the strongest first: flags; RECONCILER_*; the PREFECT_* variables that the worker uses; the file; systemd's
credential; the active Prefect profile; defaults. Scopes come from the file only. Without a file nothing is written:
the mode is `observe`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reconciler.settings.checks import contradictions, read_secrets
from reconciler.settings.model import ApiSettings, Settings, known_keys, setting_paths
from reconciler.settings.prefect import prefect_layer, profile_layer
from reconciler.settings.problems import ConfigError, in_words
from reconciler.settings.sources import (
    FileError,
    Given,
    Layer,
    config_file,
    credentials_layer,
    defaults_layer,
    environment_layer,
    file_layer,
    flags_layer,
    merge,
    nested,
    read_toml,
)

_NO_FILE = {"policy.mode": Given("observe", "no configuration file: observe")}


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings; the origin of each by its dotted path, of "scopes" and of "config"; the file, if there is one."""

    settings: Settings
    origins: Mapping[str, str]
    file: Path | None


def load(config: Path | None, environ: Mapping[str, str], flags: Mapping[str, object] | None = None) -> Loaded:
    """Read every source. `flags` are by dotted path ("policy.mode"). Raises ConfigError with all problems."""
    path, named_by = config_file(config, environ)
    tree, unread = _read(path, named_by)
    variables, unknown = environment_layer(environ)
    profile, profile_problem = profile_layer(environ)
    given = merge(
        [
            {} if tree is not None or unread else _NO_FILE,
            flags_layer(flags or {}),
            variables,
            prefect_layer(environ, "environment {name}"),
            file_layer(tree or {}, path),
            credentials_layer(environ),
            profile,
            defaults_layer(environ),
        ]
    )
    settings, broken, wrong = _validated(given)
    problems = unread + unknown + wrong
    if not unread:  # else what the file says is missing everywhere
        problems += contradictions(settings, given, broken)
        if profile_problem and "api.url" not in given:
            problems.append(profile_problem)
    api, unreadable = read_secrets(settings.api)
    problems += unreadable
    file = None if tree is None and not unread else path
    if problems:
        raise ConfigError(problems, file)
    origins = _origins(given, api) | {"config": named_by if file else "none"}
    return Loaded(settings.model_copy(update={"api": api}), origins, file)


def worst_case_detection(settings: Settings, interval: timedelta | None = None) -> Mapping[str, timedelta]:
    """Time from a death to the write, at most, while everything answers; plus the length of one cycle.

    A daemon looks every `interval`, so a condition is noticed up to one interval after it holds. One-shot (no
    interval): how old a death must be for a pass to settle it; the pass itself waits `confirm_after`.

    - exited_*: the settle time + interval. An end whose time the place does not tell needs one look more.
    - exited_unseen: its node was lost, so the last heartbeat must be older than `quiet` too: max of both + interval.
    - gone: a run that began just before its death must outlive `grace` first: grace + interval + confirm_after.
    - gone_unsighted: the last heartbeat must be older than `quiet`: max(grace, quiet) + interval + confirm_after. So
      it is for what vanished together with its node.
    - subflow_left: its parent was ended by others: subflow_grace + interval + confirm_after from then.
    """
    policy, wait = settings.policy, interval or timedelta()
    settle_times = policy.settle_failed, policy.settle_zero, policy.settle_starting
    return {
        "exited_failed": policy.settle_failed + wait,
        "exited_zero": policy.settle_zero + wait,
        "exited_starting": policy.settle_starting + wait,
        "exited_unseen": max(*settle_times, policy.quiet) + wait,
        "gone": policy.grace + wait + policy.confirm_after,
        "gone_unsighted": max(policy.grace, policy.quiet) + wait + policy.confirm_after,
        "subflow_left": policy.subflow_grace + wait + policy.confirm_after,
    }


def _read(path: Path, named_by: str) -> tuple[dict[str, Any] | None, list[str]]:
    """Read the file: (None, no problem) only if nobody named one and the default one does not exist."""
    try:
        tree = read_toml(path, "the configuration file")
    except FileError as error:
        return None, [str(error)]
    if tree is None and named_by != "default":
        return None, [f"the configuration file {path} does not exist ({named_by})"]
    return tree, []


def _validated(given: Layer) -> tuple[Settings, frozenset[str], list[str]]:
    """Give the settings, without what is wrong by itself; the paths of that; and the sentences about it.

    In rounds: what a table that is none hid may be wrong by itself, once that is left out.
    """
    rest, broken, sentences = dict(given), frozenset[str](), list[str]()
    while True:
        try:
            return Settings(**nested(rest)), broken, sentences
        except ValidationError as error:
            places = {item["loc"] for item in error.errors(include_url=False, include_input=False)}
            sentences += in_words(error, known_keys(), partial(_placed, given=rest))
        broken |= {_path(location) for location in places if not _in_scope(location)}
        fewer = {path: value for path, value in rest.items() if path not in broken}
        bad_scopes = {location[1] for location in places if _in_scope(location)}
        if bad_scopes:
            scopes = [scope for number, scope in enumerate(_scope_tables(rest)) if number not in bad_scopes]
            fewer["scopes"] = rest["scopes"]._replace(value=scopes)
        if fewer == rest:  # nothing can be left out, so nothing is kept
            fewer = {}
        rest = fewer


def _in_scope(location: tuple[int | str, ...]) -> bool:
    return location[0] == "scopes" and len(location) > 1


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location[:2])


def _placed(location: tuple[int | str, ...], given: Layer) -> tuple[str, str]:
    """Write a location as an operator knows it ("scopes[prod-7].workers"), and where its value came from."""
    words = [part for part in location if isinstance(part, str)]
    if not _in_scope(location):
        origin = given.get(_path(location)) or given.get(str(location[0]))
        return ".".join(words), origin.origin if origin else ""
    number = int(location[1])
    table = _scope_tables(given)[number]
    name = table.get("name") if isinstance(table, Mapping) else None
    label = name if isinstance(name, str) and name else number + 1
    return ".".join([f"scopes[{label}]", *words[1:]]), given["scopes"].origin


def _scope_tables(given: Layer) -> list[Any]:
    tables = given["scopes"].value
    return list(tables) if isinstance(tables, list | tuple) else []


def _origins(given: Layer, api: ApiSettings) -> dict[str, str]:
    origins = dict.fromkeys((*setting_paths(), "scopes"), "default") | {path: it.origin for path, it in given.items()}
    for name in ("key", "auth_string"):
        if f"api.{name}_file" in given:
            origins[f"api.{name}"] = f"file {getattr(api, f'{name}_file')}"
    return origins
