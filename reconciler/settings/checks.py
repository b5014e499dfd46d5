"""What makes no sense together, or cannot be read.

A setting that is wrong by itself is left out, so that one mistake is told once.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

from pydantic import SecretStr

from reconciler.settings import durations
from reconciler.settings.model import ApiSettings, PolicySettings, ScopeSettings, Settings
from reconciler.settings.sources import Layer

_SECRETS = ("key", "auth_string")
_HOST = re.compile(r"\*|(\*\.)?[^\s*/:@\[\]]+")


def contradictions(settings: Settings, given: Layer, broken: frozenset[str]) -> Iterator[str]:
    """Yield every cross-check that fails. `broken` has the paths that were refused by themselves."""
    if not {"api", "api.url"} & {*broken, *given}:
        yield "api.url: no Prefect API address: set PREFECT_API_URL or [api] url"
    for name in _SECRETS:
        if {f"api.{name}", f"api.{name}_file"} <= given.keys():
            yield f"api.{name}: given together with api.{name}_file; keep only api.{name}_file"
    ca_file = settings.api.ca_file
    if ca_file is not None and not ca_file.is_file():
        yield f"api.ca_file: there is no file {ca_file} ({given['api.ca_file'].origin})"
    policy = settings.policy
    if policy.settle_zero < policy.settle_failed and not {"policy.settle_zero", "policy.settle_failed"} & broken:
        yield (
            f"policy.settle_zero: {durations.text(policy.settle_zero)} is shorter than policy.settle_failed "
            f"({durations.text(policy.settle_failed)}), but a run that exited with code 0 has most likely reported or "
            f"is about to; write at least {durations.text(policy.settle_failed)}"
        )
    yield from _resumption(policy)
    for name in sorted(settings.daemon.allowed_hosts):
        if not _HOST.fullmatch(name):
            yield (
                f"daemon.allowed_hosts: '{name[:60]}' is not a name; write it without scheme and port, such as "
                '"status.example.com", or "*.example.com" for all below that'
            )
    yield from _scopes(settings.scopes)


def _resumption(policy: PolicySettings) -> Iterator[str]:
    """A run is started again only if both are said: how often, and which."""
    if policy.resume_max and not policy.resume_work_pools and not policy.resume_tags:
        yield (
            "policy.resume_max: says how often, and not what is resumed; name work pools in policy.resume_work_pools, "
            "or tags in policy.resume_tags"
        )


def _scopes(scopes: tuple[ScopeSettings, ...]) -> Iterator[str]:
    for name, times in Counter(scope.name for scope in scopes).items():
        if times > 1:
            yield f"scopes[{name}].name: {times} scopes have this name; give each its own"
    for scope in scopes:
        if scope.exclusive and not (scope.work_pools or scope.work_queues or scope.workers):
            yield (
                f"scopes[{scope.name}].exclusive: says that runs can be nowhere else, and not which; give the scope "
                "work_pools, work_queues or workers"
            )
    for one, other in combinations(scopes, 2):
        if one.exclusive and other.exclusive and one.name != other.name and _may_share(one, other):
            yield (
                f"scopes[{other.name}].exclusive: scopes {one.name} and {other.name} are both exclusive, and a run can "
                "be mapped to both; give both work_pools, work_queues or workers that have nothing in common, or make "
                "one of them exclusive = false"
            )


def _may_share(one: ScopeSettings, other: ScopeSettings) -> bool:
    """Whether one run can be mapped to both. Tags never separate: a run has many."""
    for kind in ("work_pools", "work_queues", "workers"):
        mine, theirs = getattr(one, kind), getattr(other, kind)
        if mine and theirs and mine.isdisjoint(theirs):
            return False
    return True


def read_secrets(api: ApiSettings) -> tuple[ApiSettings, list[str]]:
    """Fill in what the secret files hold, and say which cannot be used."""
    found, problems = {}, []
    for name in _SECRETS:
        path: Path | None = getattr(api, f"{name}_file")
        if path is None or getattr(api, name) is not None:
            continue
        try:
            found[name] = SecretStr(_secret(path))
        except ValueError as error:
            problems.append(f"api.{name}_file: {error}")
    return api.model_copy(update=found), problems


def _secret(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text; put the secret alone on its first line") from None
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist; create it with mode 0600, owned by the service's user") from None
    except OSError as error:
        remedy = "let the service's user read it (chown, chmod 0600)"
        raise ValueError(f"{path} cannot be read: {error.strerror}; {remedy}") from None
    if not text or not text.isprintable():
        wrong = "holds more than one line" if text else "is empty"
        raise ValueError(f"{path} {wrong}; put the secret alone on its first line")
    return text
