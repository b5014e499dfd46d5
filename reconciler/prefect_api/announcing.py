"""Tells the server what was settled: a line in the flow run's log, an event for automations, labels on request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import uuid5

import httpx
import structlog

from reconciler.model import Action, StateRecord
from reconciler.plan import Finding, transition_id
from reconciler.ports import OrchestratorError
from reconciler.prefect_api.refusals import Unreachable
from reconciler.prefect_api.transport import Transport
from reconciler.words import clipped, legible

SETTLED = "prefect-reconciler.flow-run.settled"

_LOGGER = "prefect.reconciler"
_LEVELS = {Action.CRASH: 40, Action.CANCEL: 30}
_TEXT = 300  # characters of a label, and of what is only shown
_MOST_TAGS = 50  # a server takes 100 related resources unless its operator lowered it (3.8.8)
_NO_ROUTE = frozenset({404, 405})

_log = structlog.get_logger(__name__)


class Announcer:
    """Remembers, for one pass, which routes the server does not have. `hide` takes secrets out of a text."""

    def __init__(self, transport: Transport, hide: Callable[[str], str]) -> None:
        self._transport = transport
        self._hide = hide
        self._missing: set[str] = set()
        self._failed: set[str] = set()

    def begin_pass(self) -> None:
        """Servers are upgraded, and a proxy may answer 404 once."""
        self._missing.clear()
        self._failed.clear()

    def announce(self, finding: Finding, state: StateRecord) -> list[str]:
        """Tell of a settlement that wrote `state`. Gives what failed, as sentences; it is tried no second time."""
        run = finding.run
        notes = [
            self._tell("no line was added to the flow run's log", "POST", "/logs/", [_log_line(finding, state)]),
            self._tell("no event was sent", "POST", "/events", [self._event(finding, state)], route="/events"),
        ]
        if finding.labels_run:
            path, labels = f"/flow_runs/{run.id}/labels", _labels(finding)
            notes.append(self._tell("the flow run was not labelled", "PATCH", path, labels, route="labels"))
        return [note for note in notes if note is not None]

    def _tell(self, failure: str, method: str, path: str, body: object, *, route: str | None = None) -> str | None:
        """A sentence if it fails. Routes that servers lack (2.20: events; before 3.1.6: labels) are skipped."""
        if route in self._missing:
            return None
        if route in self._failed:  # each would wait for as long as the first
            return f"{failure}: that failed before in this pass"
        try:
            answer = self._transport.ask(method, path, body, accept=_NO_ROUTE if route else ())
        except OrchestratorError as error:
            self._failed |= {route} if route and isinstance(error, Unreachable) else set()
            return f"{failure}: {error}"
        if answer.status in _NO_ROUTE and route and (answer.is_route_missing or answer.status != httpx.codes.NOT_FOUND):
            self._missing.add(route)
            _log.debug("the Prefect server does not have this route, so it is not told by it", route=route)
        return None

    def _event(self, finding: Finding, state: StateRecord) -> dict[str, object]:
        """One id per settlement, so that an event that is sent again is not another one (seen on 3.8.8)."""
        run = finding.run
        return {
            "id": uuid5(transition_id(run.id, run.state_id), SETTLED),
            "occurred": state.timestamp,
            "event": SETTLED,
            "resource": {
                "prefect.resource.id": f"prefect.flow-run.{run.id}",
                **_given({"prefect.resource.name": self._shown(run.name)}),
                **_labels(finding),
            },
            "related": list(self._related(finding)),
            "payload": self._payload(finding, state),
        }

    def _related(self, finding: Finding) -> Iterator[dict[str, str]]:
        run, head = finding.run, finding.inside or finding.run
        if head.deployment_id is not None:
            yield _resource(f"prefect.deployment.{head.deployment_id}", "deployment")
        tags = (tag for tag in sorted(run.tags) if tag and len(tag) <= _TEXT and self._hide(tag) == tag)  # never cut
        for tag, _ in zip(tags, range(_MOST_TAGS), strict=False):
            yield _resource(f"prefect.tag.{tag}", "tag")

    def _payload(self, finding: Finding, state: StateRecord) -> dict[str, object]:
        seen = finding.observation
        resource = seen.resource if seen else None
        return _given(
            {
                "message": self._hide(finding.message),
                "state_id": state.id,
                "resource": self._shown(resource.title) if resource else None,
                "exit_code": seen.exit_code if seen else None,
                "condition": seen.condition if seen else None,
            }
        )

    def _shown(self, text: str) -> str:
        return clipped(legible(self._hide(text)), _TEXT)


def _log_line(finding: Finding, state: StateRecord) -> dict[str, object]:
    return {
        "name": _LOGGER,
        "level": _LEVELS[finding.action],
        "message": finding.message,
        "timestamp": state.timestamp,
        "flow_run_id": finding.run.id,
    }


def _labels(finding: Finding) -> dict[str, object]:
    """What automations choose by. Plain texts alone: null or nested labels make a run unreadable (3.4.25, 3.8.8)."""
    labels = {
        "reason": finding.cause,
        "adapter": finding.adapter,
        "scope": finding.scope,
        "rule": finding.rule,
        "action": finding.action,
    }
    return {f"prefect-reconciler.{key}": clipped(str(value), _TEXT) for key, value in labels.items() if value}


def _resource(name: str, role: str) -> dict[str, str]:
    return {"prefect.resource.id": name, "prefect.resource.role": role}


def _given(values: dict[str, object]) -> dict[str, object]:
    """Without what is not known."""
    return {key: value for key, value in values.items() if value not in (None, "")}
