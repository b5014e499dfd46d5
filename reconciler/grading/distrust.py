"""Which scopes are not trusted: what the file says, and what this process found and could not keep. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from reconciler.grading.cases import WATCHED_FOR, Case, Key


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeRecord:
    """What is known of a scope's trust. Times are ours."""

    scope: str
    false_crashes: int = 0  # ever, since the file was made
    distrusted_since: datetime | None = None
    trusted_at: datetime | None = None  # when a person said so last; false crashes found before count no more


@dataclass(frozen=True, slots=True)
class Trusted:
    """What came of a person's trust in a scope."""

    was_distrusted: bool
    problem: str | None = None  # why it was not kept: then nothing has changed

    def __bool__(self) -> bool:
        """It was distrusted, and is trusted again."""
        return self.was_distrusted and self.problem is None


class Everyone(Mapping[str, datetime]):
    """Every scope is distrusted, whatever its name. To go through it gives only those that are known by name."""

    def __init__(self, since: datetime, known: Mapping[str, datetime]) -> None:
        self._since, self._known = since, known

    def __getitem__(self, scope: str) -> datetime:
        return self._known.get(scope, self._since)

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


class Found:
    """The false crashes that this process has found, and what it concludes: a file may not be written."""

    def __init__(self) -> None:
        self._crashes: dict[Key, tuple[str, str, datetime]] = {}  # by case: scope, incident, when
        self._since: dict[str, datetime] = {}

    def note(self, case: Case, now: datetime) -> None:
        self._crashes = {key: crash for key, crash in self._crashes.items() if crash[2] > now - WATCHED_FOR}
        self._crashes.setdefault(case.key, (case.scope, case.incident, now))

    def of(self, scope: str) -> list[tuple[str, datetime]]:
        """The incident of each, and when it was found."""
        return [(incident, at) for where, incident, at in self._crashes.values() if where == scope]

    def distrust(self, scope: str, now: datetime) -> None:
        self._since[scope] = now

    def forgive(self, scope: str) -> None:
        self._since.pop(scope, None)
        self._crashes = {key: crash for key, crash in self._crashes.items() if crash[0] != scope}

    def merged(self, records: Iterable[ScopeRecord]) -> dict[str, datetime]:
        """Since when scopes are distrusted. Another process may have been told to trust one."""
        known = {one.scope: one for one in records}
        distrusted = {name: one.distrusted_since for name, one in known.items() if one.distrusted_since is not None}
        for scope, since in self._since.items():
            trusted_at = known[scope].trusted_at if scope in known else None
            if trusted_at is None or trusted_at < since:
                distrusted.setdefault(scope, since)
        return distrusted
