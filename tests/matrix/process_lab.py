"""Processes of a host: real ones, and nothing else that runs here."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from reconciler.model import Condition, FlowRun
from reconciler.plan import Policy
from reconciler.testing import Fault
from tests.adapters.process_world import ProcessWorld, end
from tests.matrix.lab import ENDED, GONE, LIVING, Bounds, Lab
from tests.passes import ScopePasses, identity_of
from tests.rigs.polling import wait_until


class ProcessLab(Lab):
    """What has ended stays defunct, for its parent does not reap it: to this adapter it is gone.

    All that it sees may be a part of what runs the flow, so without a pid no absence counts: UNMANAGED, by design.
    """

    without_pid = (4,)
    leaves_remains = False

    def __init__(self, world: ProcessWorld, bounds: Bounds) -> None:
        self.world = world
        pin = identity_of(world.scope) if bounds.is_pinned else None
        many = ScopePasses(world.scope, "process", exclusive=False, pin=pin, deadline=bounds.deadline, policy=Policy())
        super().__init__(many)

    def place(self) -> FlowRun:
        return self.world.place(Condition.ALIVE)

    def die(self) -> None:
        children = {str(child.pid): child for child in self.world._children}
        for run in self.some(GONE):
            end(children[run.pid or ""])
        for run in self.some(ENDED):
            os.kill(int(run.pid or 0), 9)
            stat = Path(f"/proc/{run.pid}/stat")
            wait_until(lambda stat=stat: ") Z " in stat.read_text(), "it is defunct", every=0.01)  # type: ignore[misc]

    def inject(self, fault: Fault) -> None:
        assert self.world.inject(fault)

    def slow_down(self) -> None:
        read = self.world.files.read

        def slow(name: str) -> bytes:
            time.sleep(0.01)
            return read(name)

        self.world.files.read = slow  # type: ignore[method-assign]

    def rename(self) -> bool:
        self.world.replace_identity()
        return True

    def swap(self) -> None:
        self.rename()
        self._kept, self.world.files.shown = self.world.files.shown, {1, 2}

    def replace(self) -> None:
        first, gone = self.placed[0], self.some(GONE)[0]
        self.world._replace(first, self.world.spawn(first.id))
        self.world.replace_resource(gone)

    def unlabel(self) -> None:
        for run in self.some(LIVING):
            self.world.unlabel(run)
        self._are_erased = True

    def heal(self) -> None:
        self.world.heal()
        self.world.files.__dict__.pop("read", None)
        self.world._machine_id.write_text(f"{1:032x}\n")
        self.world.files.shown = self.__dict__.pop("_kept", self.world.files.shown)
        for run in self.some(LIVING) if self.__dict__.pop("_are_erased", False) else ():
            self.world._replace(run, self.world.spawn(run.id))  # nothing brings an environment back


@contextmanager
def process_lab(folder: Path, bounds: Bounds) -> Iterator[ProcessLab]:
    with ProcessWorld(folder) as world:
        lab = ProcessLab(world, bounds)
        with closing(lab.many):
            yield lab
