"""What was seen of a run, as the sentence that an operator reads in the Prefect UI. Pure."""

from __future__ import annotations

from datetime import datetime

from reconciler.model import Condition, FlowRun, Observation, Sighting
from reconciler.weigh import Absence, Sight
from reconciler.words import moment

NOTHING = Observation(condition=Condition.GONE, reason="was not found")


def sentence(seen: Observation, when: str = "") -> str:
    """Write "Docker container 016aa6b2b5b6 (otter) on engine prod-7 is running"."""
    return f"{seen.resource.title if seen.resource else 'its infrastructure'} {seen.reason}{when}"


def ended_sentence(sight: Sight, now: datetime) -> str:
    """Write what ended, how, and when (our clock)."""
    ended_at = sight.observation.ended_at
    when = "" if ended_at is None else f" at {moment(sight.scope.clock.to_ours(ended_at), now)}"
    return sentence(sight.observation, when)


def gone_sentence(absence: Absence, now: datetime) -> str:
    """Write what vanished, from where, and when it was last seen."""
    stated, sighting = absence.observation, absence.sighting
    resource = sighting.resource if sighting else stated.resource if stated else None
    title = resource.title if resource else f"its infrastructure in scope '{absence.scope.name}'"
    if sighting is None:
        return f"{title} {stated.reason if stated else NOTHING.reason}"
    return f"{title} {stated.reason if stated else 'is no longer there'}; {_last_seen(sighting, now)}"


def unmapped_sentence(run: FlowRun) -> str:
    """Write why no scope is asked about the run, and the configuration line that would change it."""
    line = run.mapping_line
    if run.pool_names_place:
        return (
            f"its work pool '{run.work_pool}' (or the run itself) carries its own cluster_config, which names the "
            f"cluster: map it with {line} on that cluster's scope"
        )
    of_type = f" (worker type '{run.worker_type}')" if run.worker_type else ""
    pool = f"work pool '{run.work_pool}'" if run.work_pool else "it, and it has no work pool any more"
    return f"no scope is mapped to {pool}{of_type}: add one to the configuration with {line}"


def _last_seen(sighting: Sighting, now: datetime) -> str:
    if sighting.ended_seen is not None or sighting.live_seen is None:
        return f"when last seen, {moment(sighting.last_seen, now)}, it {sighting.reason}"
    when, what = moment(sighting.live_seen, now), sighting.reason.removeprefix("is ")
    return f"last seen {what} {when}" if what != sighting.reason else f"last seen {when}: it {what}"
