"""What only the guards read of the memory. It moves by itself: of a pass it takes no more than an `Effect`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from .setting import Marks, Setting, after

AWAY = -1.0  # the scope could not be asked; it is back with the next answer


class Effect(NamedTuple):
    """What a pass leaves in it."""

    tripped: bool = False
    away: bool = False  # the scope failed in the last look
    swapped: bool = False  # it was another place in the second look


@dataclass(frozen=True, slots=True)
class Wary:
    """Ages in seconds, each the lower end of its bucket. The default: an empty memory."""

    known: float = 0  # since the identity was learned; never yet: it will be at the first answer
    former: bool = False  # ... after another one
    breaker: float | None = None
    jumped: float | None = None  # None also when that was long ago
    back: float | None = None  # ditto; `AWAY`

    @property
    def dominant(self) -> Wary:
        """What is enough to hold by itself, alone; else all of it. (Guards do nothing but hold: that has a test.)"""
        if self.jumped is not None:
            return replace(CALM, jumped=self.jumped)
        return replace(self, back=None) if self.back is None else replace(CALM, back=0.0)

    def after_pass(self, effect: Effect) -> Wary:
        breaker = (self.breaker or 0.0) if effect.tripped else None
        back = AWAY if effect.away else 0.0 if self.back == AWAY else self.back
        known, former = (0.0, True) if effect.swapped else (self.known, self.former)
        return replace(self, breaker=breaker, back=back, known=known, former=former)

    def at_answer(self, *, swapped: bool = False) -> Wary:
        """As the guards find it when the scope has answered."""
        known, former = (0.0, True) if swapped else (self.known, self.former)
        return replace(self, back=0.0 if self.back == AWAY else self.back, known=known, former=former)

    def aged(self, by: float) -> Wary:
        def later(age: float | None) -> float | None:
            return None if age is None or age == AWAY else age + by

        back = AWAY if self.back == AWAY else later(self.back)
        return replace(self, known=self.known + by, breaker=later(self.breaker), jumped=later(self.jumped), back=back)


CALM = Wary(known=200)


def times(wary: Wary, marks: Marks) -> Iterator[tuple[str, Wary]]:
    """Time passes one threshold."""
    if (mark := after(wary.known, marks.known)) is not None:
        yield "known long enough", replace(wary, known=mark, former=False)
    if (mark := after(wary.breaker, marks.breaker)) is not None:
        yield f"breaker open for {mark:.0f} s", replace(wary, breaker=mark)
    if wary.jumped is not None:
        yield "the jump is long ago", replace(wary, jumped=None)
    if wary.back is not None and wary.back != AWAY:
        yield "back long enough", replace(wary, back=None)


def events(wary: Wary, setting: Setting) -> Iterator[tuple[str, Wary]]:
    yield "our clock jumps", replace(wary, jumped=0.0)
    if setting.restarts:
        yield "the place restarts", replace(wary, back=0.0)


def identity_changed(wary: Wary) -> Wary:
    return replace(wary, known=0.0, former=True)


def forgotten(_: Wary) -> Wary:
    return Wary()
