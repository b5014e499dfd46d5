"""Our clock. Within a pass nobody can set it; between passes it follows the wall clock again.

`CLOCK_BOOTTIME` runs on at an even pace whatever is done to the wall clock, and while the machine sleeps
(clock_gettime(2)); adjustments by NTP change the pace of both alike. So the wall clock's reading at boot time zero only
changes when somebody sets the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

_READINGS, _AT_ONCE = 5, 0.1  # seconds
TOLERANCE = timedelta(seconds=1)  # two clocks cannot be read in the same instant


@dataclass(frozen=True, slots=True)
class Reading:
    """How the wall clock stands to the one that nobody can set. Comparable within one `boot` only."""

    boot: str  # which run of the machine, and which time namespace; "": not known
    zero: datetime  # what the wall clock would have shown at boot
    slept: timedelta  # for how long the machine was suspended since

    def step_since(self, earlier: Reading) -> timedelta:
        """By how much the wall clock was set forward; zero if it is too little to tell."""
        step = self.zero - earlier.zero
        return step if abs(step) > TOLERANCE else timedelta(0)

    def slept_since(self, earlier: Reading) -> timedelta:
        """For how long the machine slept; zero if it is too little to tell."""
        slept = self.slept - earlier.slept
        return slept if slept > TOLERANCE else timedelta(0)


def since_boot() -> float:
    """Seconds on a clock that nobody sets and that runs on while the machine sleeps. For deadlines."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _wall() -> datetime:
    return datetime.now(UTC)


class Clock:
    """Call it for the time. `begin` a pass to take over what the wall clock shows."""

    def __init__(
        self,
        wall: Callable[[], datetime] = _wall,
        since_boot: Callable[[], float] = since_boot,
        awake: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall, self._since_boot, self._awake = wall, since_boot, awake
        self._boot = _boot()
        self._anchor = self.reading()

    def __call__(self) -> datetime:
        return self._anchor.zero + timedelta(seconds=self._since_boot())

    def begin(self) -> Reading:
        """Follow the wall clock, and say how it stands."""
        self._anchor = self.reading()
        return self._anchor

    def reading(self) -> Reading:
        for _ in range(_READINGS):  # a process that is held up in the middle would see a jump
            before, wall, awake, after = self._since_boot(), self._wall(), self._awake(), self._since_boot()
            if after - before < _AT_ONCE:
                break
        boottime = (before + after) / 2
        return Reading(self._boot, wall - timedelta(seconds=boottime), timedelta(seconds=boottime - awake))

    @property
    def has_jumped(self) -> bool:
        """The wall clock was set, or the machine slept, since `begin`."""
        now = self.reading()
        return bool(now.step_since(self._anchor) or now.slept_since(self._anchor))


def _boot() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = Path("/proc/self/ns/time")  # since Linux 5.6; it may shift the clock
        return f"{boot} {namespace.readlink() if namespace.exists() else ''}".strip()
    except (OSError, ValueError):
        return ""
