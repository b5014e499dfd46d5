"""One place with whole passes over it, to be broken and healed: what the four adapters' labs have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass, replace

from reconciler.model import FlowRun, RunId, Verdict
from reconciler.testing import Fault
from tests.passes import ScopePasses
from tests.rigs.polling import wait_until

LIVING, GONE, ENDED = range(5), range(5, 7), range(7, 8)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How the passes of a lab are made: seconds for one look, and whether its identity is pinned."""

    deadline: float = 5.0
    is_pinned: bool = False


class Lab(ABC):
    """Eight runs that were seen alive. Five live on; `die` lets two vanish, one end and leave its remains.

    Whatever is done to the place, `heal` undoes. `placed` are the runs with the pids that they have by rights.
    """

    without_pid: Collection[int] = (4, 6)  # one that lives on, and one that will be gone
    leaves_remains = True  # False: what has ended is as absent as what is gone

    def __init__(self, many: ScopePasses) -> None:
        self.many = many
        self.placed = [self.place() for _ in (*LIVING, *GONE, *ENDED)]
        given = [replace(run, pid=None) if n in self.without_pid else run for n, run in enumerate(self.placed)]
        many.api.runs = given
        wait_until(lambda: {found.verdict for found in many.look(dry=True)} == {Verdict.HEALTHY}, "all are seen alive")

    # What there is.

    @abstractmethod
    def place(self) -> FlowRun:
        """Start what runs a flow. The run has a pid."""

    @abstractmethod
    def die(self) -> None: ...

    def some(self, which: range) -> list[FlowRun]:
        return [self.placed[number] for number in which]

    def ids(self, *which: range) -> set[RunId]:
        return {run.id for numbers in which for run in self.some(numbers)}

    # What goes wrong.

    @abstractmethod
    def inject(self, fault: Fault) -> None:
        """Every call meets it."""

    def inject_into_look_ups(self, fault: Fault) -> bool:
        """Only the calls that are made for runs of which nothing lives. False if there are none of that kind."""
        return False

    @abstractmethod
    def slow_down(self) -> None:
        """Every answer takes its time, and comes before the deadline."""

    @abstractmethod
    def rename(self) -> bool:
        """The same place has another identity. False if the platform cannot have it."""

    @abstractmethod
    def swap(self) -> None:
        """Another place answers, in which none of this one's is."""

    @abstractmethod
    def replace(self) -> None:
        """The first that lives is another one of the same name now; the name of the first gone one is somebody's."""

    @abstractmethod
    def unlabel(self) -> None:
        """What lives and what left its remains no longer carries its run's id."""

    @abstractmethod
    def heal(self) -> None: ...

    # What came of it.

    def passes(self, count: int, apart: float) -> set[Verdict]:
        """So many, each that many seconds after the former. The verdicts on the gone ones."""
        found: set[Verdict] = set()
        for _ in range(count):
            self.many.later(apart)
            found |= {finding.verdict for finding in self.many.look() if finding.run.id in self.ids(GONE)}
        return found

    def wait_for_answers(self) -> None:
        """A call that hung returns first."""
        wait_until(lambda: {found.verdict for found in self.many.look(dry=True)} != {Verdict.UNKNOWN}, "it answers")

    @property
    def written(self) -> set[RunId]:
        return {finding.run.id for finding in self.many.api.written}
