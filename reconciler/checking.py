"""`reconcile check`: configuration with the origin of each value, the API, every scope's identity and permissions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from pydantic import SecretStr

from reconciler.composing import Parts
from reconciler.looking import Answer, Asker, look
from reconciler.ports import BoundScope, OrchestratorError, Problem, lists_everything
from reconciler.settings import durations, setting_paths, worst_case_detection
from reconciler.settings.cautions import cautions
from reconciler.words import clipped, legible, span

_LINE = 5000  # characters

_DEATHS = {
    "exited_failed": "ended with a code other than 0, or none",
    "exited_zero": "ended with code 0",
    "exited_starting": "ended before the run began",
    "exited_unseen": "ended out of sight, its node lost",
    "gone": "vanished, and was seen there before",
    "subflow_left": "a subflow whose parent somebody else had ended",
    "gone_unsighted": "vanished, and was never seen there (exclusive), or vanished with its node",
}


@dataclass(frozen=True, slots=True)
class Checked:
    """Lines for the operator, and whether all is well."""

    lines: tuple[str, ...]
    ok: bool


def check(parts: Parts) -> Checked:
    """Look at everything that a pass needs; read-only."""
    api_lines, api_ok = _api(parts)
    answers = look([Asker(bound) for bound in parts.bounds], {}, parts.deadline)
    scopes = [_scope(bound, answers[bound.scope.name]) for bound in parts.bounds]
    lines = [*_configuration(parts), "", *api_lines, ""]
    for scope_lines, _ in scopes:
        lines += scope_lines
    lines += [f"note: {note}" for note in (*parts.notes, *cautions(parts.loaded))]
    if not scopes:
        lines.append("no scope: nothing can be judged; add [[scopes]] to the configuration")
    shown = (clipped(legible(parts.redact(line)), _LINE) for line in (*lines, "", *_times(parts, answers)))
    return Checked(tuple(shown), api_ok and all(ok for _, ok in scopes))


def _configuration(parts: Parts) -> Iterator[str]:
    loaded = parts.loaded
    yield f"configuration: {loaded.file or 'none, so it only observes what it finds on this machine'}"
    for path in setting_paths():
        value: object = loaded.settings
        for part in path.split("."):
            value = getattr(value, part)
        yield f"  {path} = {_shown(value)}  ({loaded.origins.get(path, 'default')})"


def _shown(value: object) -> str:
    if isinstance(value, SecretStr):
        return "***"
    if isinstance(value, timedelta):
        return durations.text(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: ***" for key in value) + "}"
    if isinstance(value, frozenset):
        return "[" + ", ".join(sorted(map(str, value))) + "]"
    return "unset" if value is None else str(value)


def _api(parts: Parts) -> tuple[list[str], bool]:
    where = f"Prefect API: {parts.api.url}"
    try:
        parts.api.ping()
    except OrchestratorError as error:
        return [where, f"  problem: {error}"], False
    return [where, f"  reachable, server version {parts.api.server_version or 'unknown'}"], True


def _scope(bound: BoundScope, answer: Answer) -> tuple[list[str], bool]:
    found: list[Problem] = [] if answer.error is None else [Problem(answer.error, "")]
    if not answer.hangs:
        found += [
            problem for problem in bound.scope.check() if answer.error is None or problem.text not in answer.error
        ]
    lines = [f"scope '{bound.scope.name}' ({bound.adapter})", f"  mapped to: {_mapping(bound)}"]
    if answer.identity:
        pinned = " (pinned)" if bound.identity_pin else f'; pin it with  identity = "{answer.identity}"'
        lines.append(f"  identity: {answer.identity}{pinned}")
    if answer.seen is not None and lists_everything(bound.scope):
        lines.append(f"  sees {len(answer.seen.strangers)} live resource(s) of flow runs")
    lines += [line for problem in found for line in _told(problem)]
    return lines, all(problem.optional for problem in found)


def _told(problem: Problem) -> Iterator[str]:
    """A remedy of several lines is something to copy, such as a Role, so it stands by itself."""
    text = f"  {'note' if problem.optional else 'problem'}: {problem.text}"
    remedy = problem.remedy.splitlines()
    if len(remedy) > 1:
        yield text
        yield from (f"      {line}".rstrip() for line in remedy)
    else:
        yield text + (f" ({problem.remedy})" if remedy else "")


def _mapping(bound: BoundScope) -> str:
    mapping = bound.mapping
    kinds = ("work_pools", "work_queues", "workers", "tags")
    named = [f"{kind} {', '.join(sorted(getattr(mapping, kind)))}" for kind in kinds if getattr(mapping, kind)]
    every = f"every run of worker type {', '.join(sorted(mapping.worker_types))}"
    return (" and ".join(named) or every) + (", exclusive" if mapping.exclusive else "")


def _times(parts: Parts, answers: Mapping[str, Answer]) -> Iterator[str]:
    yield "how old a death must be for one pass to settle it, at most:"
    for what, time in worst_case_detection(parts.loaded.settings).items():
        yield f"  {_DEATHS[what]}: {span(time)}"
    for scope, answer in answers.items():
        if answer.seen is not None and answer.seen.lag:
            late = span(answer.seen.lag)
            yield f"  in scope '{scope}', which may show things late: not before they are {late} old"
    daemon = parts.loaded.settings.daemon
    policy = parts.loaded.settings.policy
    if policy.resume_max:
        pools, tags = ", ".join(sorted(policy.resume_work_pools)), ", ".join(sorted(policy.resume_tags))
        which = " and ".join(
            filter(None, [f"of work pools {pools}" if pools else "", f"tagged {tags}" if tags else ""])
        )
        often = f"at most {policy.resume_max} times, after {span(policy.resume_backoff)} at first"
        yield f"started again: runs {which}, {often}"
    yield f"the daemon passes every {span(daemon.interval + daemon.jitter)}: add that, and the length of a pass"
