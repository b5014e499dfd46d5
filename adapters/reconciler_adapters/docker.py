"""Docker: one engine, asked about the containers that Prefect's Docker workers start.

A container carries its flow run's id in the label `io.prefect.flow-run-id`; the run's pid is `<base_url>:<container
id>` and names no host. Ended containers stay until they are pruned, unless the work pool sets `auto_remove`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from reconciler.model import Condition, FlowRun, Observation, Place, Resource, RunId, Seen
from reconciler.options import needed_sdk
from reconciler.ports import AdapterError, Problem
from reconciler_adapters.docker_engine import Address, Conversation, conversation, explain
from reconciler_adapters.docker_meaning import REMOVED, Container, Wording, container_id_in, describe, judge

_MANY = 50  # suspects; above this one list of all containers is cheaper than one list per run
_LOOKS = 3  # at a run whose containers vanish between list and inspection
_MAX_STRANGERS = 10_000
_DISCOVERY_SECONDS = 1.0
_CHECK_SECONDS = 10.0


class DockerScope:
    """One Docker engine.

    Options, all texts: `base_url` (default: DOCKER_HOST, else the socket in /var/run), `tls_ca`, `tls_cert`,
    `tls_key`, and `host_name`, shown in sentences instead of the engine's own name.
    """

    worker_types = frozenset({"docker"})

    def __init__(self, name: str, options: Mapping[str, object]) -> None:
        with needed_sdk(name, "docker", extra="docker"):
            import docker  # noqa: F401
        self.name = name
        self._address = Address.of(name, options)

    @classmethod
    def discover(cls) -> Mapping[str, object] | None:
        """Find an engine that answers within a second at DOCKER_HOST or the usual socket."""
        try:
            scope = cls("docker", {})
            scope.identity(time.monotonic() + _DISCOVERY_SECONDS)
        except AdapterError:
            return None
        return {"base_url": scope._address.base_url}

    def identity(self, deadline: float) -> str:
        with conversation(self._address, deadline) as talk:
            return talk.engine().id

    def locate(self, run: FlowRun) -> Place:
        if run.pid is None or container_id_in(run.pid):
            return Place.UNSAID
        return Place.ELSEWHERE

    def observe(self, runs: Sequence[FlowRun], deadline: float) -> Seen:
        asked = {run.id: run for run in runs}
        with conversation(self._address, deadline) as talk:
            place = talk.engine()
            wording = Wording(self._address.host_name or place.name, self._address.client)
            observations: dict[RunId, list[Observation]] = {}
            strangers: list[Resource] = []
            for container in talk.live():
                if container.run_id in asked:
                    observation = judge(container, describe(container, wording, container.run_id))
                    observations.setdefault(container.run_id, []).append(observation)
                elif container.run_id and len(strangers) < _MAX_STRANGERS:
                    strangers.append(describe(container, wording, container.run_id))
            suspects = [run for run in asked.values() if run.id not in observations]
            observations.update(_look_up_all(talk, suspects, wording))
        return Seen(observations=observations, strangers=strangers, place_time=place.time)

    def check(self) -> Sequence[Problem]:
        try:
            with conversation(self._address, time.monotonic() + _CHECK_SECONDS) as talk:
                talk.engine()
                talk.live()
        except AdapterError as error:
            return [explain(error.__cause__ or error, self._address, _CHECK_SECONDS)[1]]
        return []

    def close(self) -> None:
        """Nothing is kept open between calls."""


def _look_up_all(
    talk: Conversation, runs: Sequence[FlowRun], wording: Wording
) -> Iterator[tuple[RunId, list[Observation]]]:
    """Look for the runs that have no live container, by pid and by run id."""
    listed: dict[RunId | None, list[str]] | None = None
    if len(runs) > _MANY:
        listed = {}
        for container in talk.of_any_run():
            listed.setdefault(container.run_id, []).append(container.id)
    for run in runs:
        ids = None if listed is None else listed.get(run.id, [])
        yield run.id, _look_up(talk, run, ids, wording)


def _look_up(talk: Conversation, run: FlowRun, ids: list[str] | None, wording: Wording) -> list[Observation]:
    """Inspect every container of one run; `ids` are those that carry its id, None if they are not listed yet."""
    pid_id = container_id_in(run.pid)
    for _ in range(_LOOKS):
        named = talk.inspect(pid_id) if pid_id else None
        if ids is None:
            ids = [container.id for container in talk.of_run(run.id)]
        labelled = [named if found == pid_id else talk.inspect(found) for found in ids]
        present = [container for container in labelled if container is not None]
        if len(present) == len(labelled):
            seen = [judge(container, describe(container, wording, run.id)) for container in present]
            return seen + _beyond_the_label(run, pid_id, named, ids, wording)
        ids = None  # one vanished between the list and the inspection: that list says nothing about now
    return [Observation(condition=Condition.UNKNOWN, reason="its containers changed while they were looked at")]


def _beyond_the_label(
    run: FlowRun, pid_id: str | None, named: Container | None, labelled_ids: list[str], wording: Wording
) -> list[Observation]:
    """What the pid adds to the containers found by the run's id."""
    if pid_id is None:
        return [] if labelled_ids else [Observation(condition=Condition.GONE, reason="was not found")]
    if pid_id in labelled_ids:
        return []
    if named is None:
        gone = describe(Container(id=pid_id, status=REMOVED), wording, run.id)
        return [Observation(condition=Condition.GONE, reason="was removed", resource=gone)]
    if named.run_id == run.id:
        return [judge(named, describe(named, wording, run.id))]
    # Neither life nor death of this run: somebody else's container, or one whose label was lost.
    label = f"carries the id of flow run {named.run_id}" if named.run_id else "carries no flow run's id"
    reason = f"container {pid_id[:12]}, which the run's pid names, {label}"
    return [Observation(condition=Condition.UNKNOWN, reason=reason)]
