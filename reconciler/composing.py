"""Builds the objects of a pass from the settings: the only place that knows every concrete class."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import structlog

from reconciler import __version__, registry
from reconciler.clock import Clock
from reconciler.cycle import Cycle
from reconciler.evidence_file import Evidence, fingerprint
from reconciler.grading.casebook import GRADES_FILE, Casebook
from reconciler.grading.grader import Grader
from reconciler.keeping import Keeping
from reconciler.memory import Memory
from reconciler.orphans import Orphans
from reconciler.outlook import Outlook
from reconciler.plan import Policy
from reconciler.ports import BoundScope, Misconfigured, OrchestratorError
from reconciler.prefect_api import Connection, PrefectApi
from reconciler.settings import ApiSettings, ConfigError, Loaded

_log = structlog.get_logger(__name__)

MEMORY_FILE = "memory.sqlite3"
# The names of discovered scopes may be others' in a configuration.
DISCOVERED_FILE, DISCOVERED_GRADES_FILE = "discovered.sqlite3", "discovered-grades.sqlite3"


@dataclass(frozen=True, slots=True)
class Parts:
    """What a command works with. `close` it."""

    loaded: Loaded
    api: PrefectApi
    bounds: tuple[BoundScope, ...]
    notes: tuple[str, ...]  # why an adapter was skipped by discovery
    clock: Clock
    redact: Callable[[str], str]

    @property
    def is_discovered(self) -> bool:
        """No configuration file: the scopes are what was found on this machine, and nothing is written."""
        return self.loaded.file is None

    @property
    def policy(self) -> Policy:
        return self.loaded.settings.to_policy()

    def cycle(
        self,
        wait: Callable[[float], object],
        casebook: Casebook,
        policy: Policy | None = None,
        orphans: Orphans | None = None,
    ) -> Cycle:
        """Build a cycle; its policy is the settings' unless another is given. Close its outlook."""
        memory = Memory(self.loaded.settings.state_dir / (DISCOVERED_FILE if self.is_discovered else MEMORY_FILE))
        outlook = Outlook(self.bounds, memory, self.deadline, self.clock, casebook.distrusted)
        return Cycle(self.api, outlook, policy or self.policy, wait, self.clock, orphans=orphans)

    def keeping(self) -> Keeping:
        """Where decisions and their grades are kept."""
        settings = self.loaded.settings
        configuration = fingerprint(settings.model_dump_json())  # secrets are masked in it
        evidence = Evidence(settings.state_dir, configuration=configuration, version=__version__, redact=self.redact)
        casebook = self.casebook()
        return Keeping(evidence, casebook, Grader(casebook, self.api, self.redact), self.redact)

    def casebook(self) -> Casebook:
        """Where grades are kept. Close it."""
        folder = self.loaded.settings.state_dir
        return Casebook(folder / (DISCOVERED_GRADES_FILE if self.is_discovered else GRADES_FILE))

    @property
    def deadline(self) -> float:
        return self.loaded.settings.policy.scope_deadline.total_seconds()

    def close(self) -> None:
        _close(self.api, self.bounds)


def compose(loaded: Loaded, redact: Callable[[str], str]) -> Parts:
    """Build the parts; `redact` hides secrets in evidence. Raises ConfigError with all that cannot be built."""
    clock = Clock()
    problems: list[str] = []
    bounds: tuple[BoundScope, ...] = ()
    notes: tuple[str, ...] = ()
    try:
        if loaded.file is None:
            found = registry.discover()
            bounds, notes = found.scopes, found.notes
        else:
            bounds = tuple(registry.bind(loaded.settings.scopes))
    except Misconfigured as error:
        problems += str(error).splitlines()
    api: PrefectApi | None = None
    try:
        api = PrefectApi(_connection(loaded.settings.api), clock=clock, hide=redact)
    except OrchestratorError as error:
        problems.append(str(error))
    if api is None or problems:
        _close(api, bounds)
        raise ConfigError(problems, loaded.file)
    return Parts(loaded, api, bounds, notes, clock, redact)


def _close(api: PrefectApi | None, bounds: Collection[BoundScope]) -> None:
    """Close each part, even if another cannot be."""
    for part in (api, *(bound.scope for bound in bounds)):
        try:
            if part is not None:
                part.close()
        except Exception as error:  # noqa: BLE001 - a third party's adapter; what it holds ends with the process
            _log.warning("could not be closed", part=type(part).__name__, error=f"{type(error).__name__}: {error}")


def _connection(api: ApiSettings) -> Connection:
    return Connection(
        url=api.url,
        api_key=api.key.get_secret_value() if api.key else None,
        auth_string=api.auth_string.get_secret_value() if api.auth_string else None,
        headers=api.plain_headers(),
        tls_verify=api.tls_verify,
        ca_file=str(api.ca_file) if api.ca_file else None,
        timeout=api.timeout.total_seconds(),
        retry_for=api.retry_for.total_seconds(),
    )
