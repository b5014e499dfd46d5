"""What the web part shows, kept from cycle to cycle: whether the daemon lives and sees, and what it did. No I/O."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from reconciler.news import News
from reconciler.shown import (
    NO_PASS_YET,
    Health,
    LastPass,
    Settlement,
    Shown,
    last_pass,
    newest,
    settlements_of,
)
from reconciler.words import clipped, span


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """Replaced as a whole when a cycle ends, so that a reader in another thread never sees half of one."""

    last: LastPass | None = None
    failure: str | None = None
    settlements: tuple[Settlement, ...] = ()
    ended: float | None = None  # monotonic


class Board:
    """Written by one thread, that of the cycle (`note`, `failed`), and of the reload (`refused`, `accepted`)."""

    def __init__(
        self, *, api_url: str, ui_url: str = "", patience: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """`patience`: seconds without an ended cycle after which neither probe is well. `ui_url` "": derived."""
        self._api_url, self._ui_url = api_url, ui_url
        self._patience, self._monotonic = patience, monotonic
        self._made, self._kept = monotonic(), _Kept()
        self._refusals: tuple[str, ...] = ()

    def configure(self, *, api_url: str, ui_url: str, patience: float) -> None:
        """Go on under other settings."""
        self._api_url, self._ui_url, self._patience = api_url, ui_url, patience

    def note(self, news: News) -> None:
        """Take in a cycle that ended. A `reconciler.news.Listener`."""
        self._kept = _Kept(
            last=last_pass(news),
            settlements=newest(settlements_of(news.report), self._kept.settlements),
            ended=self._monotonic(),
        )

    def failed(self, sentence: str) -> None:
        """Take in a cycle that a bug of ours ended: what was seen before it is kept, and is not to be trusted."""
        self._kept = replace(self._kept, failure=clipped(sentence), ended=self._monotonic())

    def refused(self, problems: Sequence[str]) -> None:
        """Show why a new configuration was not taken, until the next one is."""
        self._refusals = tuple(clipped(problem) for problem in problems)

    def accepted(self) -> None:
        self._refusals = ()

    @property
    def health(self) -> Health:
        """The process lives, and its cycles end."""
        return Health(tuple(self._late(self._kept)))

    @property
    def readiness(self) -> Health:
        """Whether the daemon sees the API and every scope, each red one with its reason."""
        return self._readiness(self._kept)

    @property
    def shown(self) -> Shown:
        kept = self._kept
        return Shown(
            last=kept.last,
            ago=None if kept.ended is None else timedelta(seconds=self._monotonic() - kept.ended),
            failure=kept.failure,
            settlements=kept.settlements,
            configuration_problems=self._refusals,
            readiness=self._readiness(kept),
            api_url=self._api_url,
            ui_url=self._ui_url,
        )

    def _readiness(self, kept: _Kept) -> Health:
        late = tuple(self._late(kept))
        if kept.ended is None and not late:
            return NO_PASS_YET
        failure = (kept.failure,) if kept.failure else ()
        return Health((*late, *failure, *(kept.last.blind if kept.last else ())))

    def _late(self, kept: _Kept) -> Iterator[str]:
        waited = self._monotonic() - (self._made if kept.ended is None else kept.ended)
        if waited > self._patience:
            for_long, limit = span(timedelta(seconds=waited)), span(timedelta(seconds=self._patience))
            what = "no pass has ended" if kept.ended is None else "no further pass has ended"
            yield f"{what} for {for_long}; one is due at least every {limit}"
