"""Texts and times from outside, made fit to be shown: bounded, without secrets, steering no terminal. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from reconciler.words import clipped, legible

NAME, _SENTENCE = 120, 1000  # characters


@dataclass(frozen=True, slots=True)
class Form:
    """`hide` replaces secrets."""

    hide: Callable[[str], str] = str

    def text(self, text: str, limit: int = _SENTENCE) -> str:
        return clipped(legible(self.hide(clipped(text, 10 * limit))), limit)  # hidden whole, before it is cut to size

    def maybe(self, text: str | None, limit: int = NAME) -> str | None:
        return None if text is None else self.text(text, limit)

    def time(self, ours: datetime) -> datetime:
        return ours.astimezone(UTC)

    def when(self, ours: datetime | None) -> datetime | None:
        return None if ours is None else self.time(ours)
