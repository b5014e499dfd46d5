"""What is seen of the daemon from outside: metrics and pages, fed by each cycle, served where the settings say."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from reconciler import __version__
from reconciler.board import Board
from reconciler.metrics import Metrics
from reconciler.news import News
from reconciler.settings import Settings, longest_silence
from reconciler.settings.addresses import Address
from reconciler.web import WebPart

_log = structlog.get_logger(__name__)


class Front:
    """Lives on through reloads of the configuration, so that counters and the list of settlements do."""

    def __init__(self, settings: Settings) -> None:
        self._metrics = Metrics(version=__version__)
        self._board = Board(api_url=settings.api.url, ui_url=settings.daemon.ui_url, patience=_patience(settings))
        self._web: WebPart | None = None
        self._place: tuple[Address, frozenset[str]] | None = None  # where, and under which names

    def serve(self, settings: Settings) -> None:
        """Listen where these settings say, or nowhere. Never raises; tried again with each pass."""
        self._board.configure(api_url=settings.api.url, ui_url=settings.daemon.ui_url, patience=_patience(settings))
        address, names = settings.daemon.address, settings.daemon.allowed_hosts
        place = None if address is None else (address, names)
        if self._web is not None and place != self._place:
            self._web.close()
            self._web = None
        if address is not None and self._web is None:
            self._web = WebPart(address, self._board, self._metrics.exposition, names)
        self._place = place
        if self._web is not None and (why := self._web.ensure()) is not None:
            _log.error("the web part is not served; tried again with the next pass", why=why)

    def note(self, news: News) -> None:
        """Take in what a cycle found."""
        self._metrics.note(news)
        self._board.note(news)

    def reloaded(self, problems: Sequence[str]) -> None:
        """A configuration was taken, or refused for these problems."""
        self._metrics.reloaded(ok=not problems)
        if problems:
            self._board.refused(problems)
        else:
            self._board.accepted()

    def failed(self, sentence: str) -> None:
        """A cycle ended by a bug of ours."""
        self._metrics.failed()
        self._board.failed(sentence)


def _patience(settings: Settings) -> float:
    return longest_silence(settings).total_seconds()
