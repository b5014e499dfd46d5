"""What the daemon keeps through every reload of its configuration, and how it builds what one of them asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from threading import Event
from typing import TYPE_CHECKING

import structlog

from reconciler import logs
from reconciler.composing import Parts, compose
from reconciler.daemon import Duty
from reconciler.news import Newsroom
from reconciler.orphans import Orphans
from reconciler.plan import CycleReport, Mode
from reconciler.settings import ConfigError, Loaded, Settings, deadline_problem, watchdog_problem
from reconciler.settings.cautions import cautions
from reconciler.telling import Teller
from reconciler.words import span

if TYPE_CHECKING:
    from reconciler.front import Front


_log = structlog.get_logger(__name__)


class Station:
    """Builds a Duty from the configuration as it is now. What it told, counted and shows outlives each of them."""

    def __init__(
        self, load: Callable[[], Loaded], redactor: logs.Redactor, watchdog: timedelta | None, over: Event
    ) -> None:
        self._load, self._redactor, self._watchdog, self._over = load, redactor, watchdog, over
        self._newsroom, self._teller = Newsroom(), Teller()
        self._level: str | None = None
        self._front: Front | None = None  # only if it ever was to listen: a web server is not free

    def build(self) -> Duty:
        """Read the configuration and build what it asks for. Raises ConfigError."""
        loaded = self._load()
        for secret in loaded.settings.api.secrets():
            self._redactor.redact(secret)
        found = (deadline_problem(loaded.settings), watchdog_problem(loaded.settings, self._watchdog))
        if problems := [problem for problem in found if problem]:
            raise ConfigError(problems, loaded.file)
        return self._duty(compose(loaded, self._redactor.text))

    def _duty(self, parts: Parts) -> Duty:
        settings = parts.loaded.settings
        for note in parts.notes:
            _log.info(note)
        for caution in cautions(parts.loaded):
            _log.warning(caution)
        keeping = parts.keeping()
        cycle = parts.cycle(self._over.wait, keeping.casebook, orphans=Orphans())
        cycle.time_limit = settings.daemon.cycle_deadline.total_seconds()
        cycle.is_over = self._over.is_set

        def close() -> None:
            cycle.outlook.close()
            keeping.close()
            parts.close()

        return Duty(
            title=_title(parts),
            cycle=cycle,
            interval=settings.daemon.interval,
            jitter=settings.daemon.jitter,
            begin=lambda: self._begin(settings),
            tell=lambda report: self._tell(keeping.kept(report)),
            close=close,
        )

    def _begin(self, settings: Settings) -> None:
        if settings.daemon.log_level != self._level:
            self._level = settings.daemon.log_level
            logs.configure(self._level, self._redactor)
        if self._front is None and settings.daemon.listen:
            from reconciler.front import Front

            self._front = Front(settings)
        if self._front is not None:
            self._front.serve(settings)

    def _tell(self, report: CycleReport) -> None:
        news = self._newsroom.news(report)
        self._teller.note(news)
        if self._front is not None:
            self._front.note(news)

    def reloaded(self, problems: Sequence[str]) -> None:
        """A configuration was taken, or refused for these problems."""
        if self._front is not None:
            self._front.reloaded([self._redactor.text(problem) for problem in problems])

    def failed(self, sentence: str) -> None:
        """A cycle ended by a bug of ours."""
        if self._front is not None:
            self._front.failed(self._redactor.text(sentence))


def _title(parts: Parts) -> str:
    settings = parts.loaded.settings
    scopes = ", ".join(f"{bound.scope.name} ({bound.adapter})" for bound in parts.bounds)
    looks = (
        f"looks at {scopes}"
        if scopes
        else "has no scope, so nothing can be judged: add [[scopes]] to the configuration"
    )
    writes = "settles zombies" if settings.policy.mode is Mode.SETTLE else "only observes"
    why = "; no configuration file, so the scopes are what was found on this machine" if parts.is_discovered else ""
    return f"{looks}; {writes}, every {span(settings.daemon.interval)}, at {parts.api.url}{why}"
