"""All that `decide` is given: every run with what was seen of it, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from reconciler.model import (
    EXACT,
    ClockOffset,
    FlowRun,
    Heartbeat,
    LifeSign,
    Observation,
    Place,
    RunId,
    Sighting,
    StateRecord,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one scope had to say of one run."""

    scope: str
    mapped: bool
    ever_seen: bool = False  # it was there once, under whatever identity
    place: Place
    sightings: tuple[Sighting, ...] = ()  # under the scope's present identity
    observations: tuple[Observation, ...] = ()
    absent_since: datetime | None = None  # ours: nothing but GONE was stated since then, as far as is remembered
    error: str | None = None  # why it could not tell


@dataclass(frozen=True, slots=True)
class FirstLook:
    """What the first look of this cycle found, when there is a second one."""

    at: datetime  # ours
    absent_from: frozenset[str] = frozenset()  # scopes
    ended: frozenset[str] = frozenset()  # ids of resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Inside whose process a subflow runs: its root is the nearest ancestor with infrastructure, or the top one."""

    ancestors: tuple[RunId, ...] = ()  # the parent first, the root last; empty: it could not be told, or is deleted
    error: str | None = None  # why it could not be told

    @property
    def root_id(self) -> RunId | None:
        return self.ancestors[-1] if self.ancestors else None

    @property
    def depth(self) -> int:
        """How far below its root: 1 is a child."""
        return len(self.ancestors)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Everything that is known of one flow run in this cycle."""

    run: FlowRun
    looks: tuple[Look, ...] = ()
    history: tuple[StateRecord, ...] | None = None  # oldest first; None: not read yet
    history_error: str | None = None
    first_look: FirstLook | None = None  # None: this is the first one
    lineage: Lineage | None = None  # of an in-process subflow; None of every other run
    family_reported: datetime | None = None  # server's: when what runs in its process last reported a state


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeView:
    """One scope in this cycle."""

    name: str
    adapter: str
    exclusive: bool = False
    pinned: bool = False
    identity: str | None = None
    error: str | None = None
    misconfigured: bool = False
    incomplete: str | None = None
    clock: ClockOffset = EXACT
    lag: timedelta = timedelta(0)  # it may not show yet what was made less than that ago
    known_since: datetime | None = None  # ours: since when this identity is the known one
    former_identity: str | None = None  # None: that was the first contact
    breaker_since: datetime | None = None  # ours
    back_since: datetime | None = None  # ours: since when it answers again; None: it was not known to be away
    started: datetime | None = None  # ours: when the place last started, as far as it tells
    observes: bool = False  # its own mode: nothing that is judged by it is written
    distrusted_since: datetime | None = None  # ours: false crashes were seen; until a person trusts it again
    mapped: int = 0
    sighted: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that `decide` may know. `taken_at` (ours) is the only clock."""

    taken_at: datetime
    cases: tuple[Case, ...]
    scopes: Mapping[str, ScopeView]
    server_clock: ClockOffset = EXACT
    heartbeats: Mapping[RunId, Heartbeat] = field(default_factory=dict)
    heartbeats_error: str | None = None
    life_signs: Mapping[RunId, LifeSign] = field(default_factory=dict)  # of suspects, no older than `quiet`
    life_signs_error: str | None = None
    reread_error: str | None = None  # why the suspects were judged on the rows of the list
    has_heartbeats: bool = True  # False: the server has no such events
    clock_jumped: datetime | None = None  # ours, after it: when our own clock was last seen to have jumped
    is_whole: bool = True  # False: the list of runs broke off, so shares of it mean nothing
    roots: Mapping[RunId, Case] = field(default_factory=dict)  # roots of subflows that are not in flight themselves
