"""Processes: any pid, any environment, any stat line."""

from __future__ import annotations

import time
from collections.abc import Mapping
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from reconciler.model import Condition, Place
from reconciler.ports import AdapterError
from reconciler.testing import flow_run
from reconciler_adapters.process import ProcessScope
from reconciler_adapters.process_table import ProcFiles
from tests.adapters.process_world import stat_line
from tests.fuzz.effort import fuzz
from tests.fuzz.spoiling import STRINGS

RUN, OTHER = UUID(int=1), UUID(int=2)
BOOT = b"11111111-2222-3333-4444-555555555555\n"
NAMES = st.one_of(
    st.binary(max_size=50),
    st.sampled_from([str(OTHER).encode(), b"", b"x" * 100_000, b"\xff" * 36, str(RUN).encode() + b"1", b"\x1b[2J"]),
)


class Told(ProcFiles):
    """Files as a test tells them."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__("/proc")
        self.files = {"sys/kernel/random/boot_id": BOOT} | dict(files)

    def pids(self) -> list[int]:
        return sorted({int(name.partition("/")[0]) for name in self.files if name[0].isdigit()})

    def read(self, name: str) -> bytes:
        if name not in self.files:
            raise FileNotFoundError(2, "No such file", name)
        return self.files[name]


def a_scope(files: Mapping[str, bytes]) -> ProcessScope:
    scope = ProcessScope("p", {"host_name": "web-3"})
    scope.files = Told({"1/stat": stat_line(1, "systemd", 0), "2/stat": stat_line(2, "kthreadd", 0x00200000), **files})
    return scope


@given(pid=st.one_of(STRINGS, st.integers().map(str), st.builds("{}:{}".format, STRINGS, st.integers())))
@fuzz(200)
def test_any_pid_points_somewhere(pid: str) -> None:
    assert a_scope({}).locate(flow_run(pid)) in set(Place)


@given(name=NAMES, before=NAMES, pid=st.sampled_from(["77", "web-3:77", "78", None]))
@fuzz(200)
def test_any_environment(name: bytes, before: bytes, pid: str | None) -> None:
    """Whatever a process carries that is not this run's id, it is not this run's life, and no end."""
    environ = before + b"\0PREFECT__FLOW_RUN_ID=" + name + b"\0"
    scope = a_scope({"77/stat": stat_line(77, "py) R 1 (", 0), "77/environ": environ, "77/status": b"Uid:\t0\n"})
    run = flow_run(pid, id=RUN)
    (one,) = scope.observe([run], time.monotonic() + 5).observations[RUN]
    assert one.condition in {Condition.GONE, Condition.UNKNOWN}
    assert one.resource is None or one.resource.run_id == RUN


@given(stat=st.one_of(st.binary(max_size=80), STRINGS.map(lambda text: f"77 ({text}) S 1".encode("utf-8", "replace"))))
@fuzz(150)
def test_any_stat_line(stat: bytes) -> None:
    scope = a_scope({"77/stat": stat, "77/environ": b"A=B\0", "77/status": b"Uid:\t\xff\nNSpid:\t\xff\n"})
    try:
        seen = scope.observe([flow_run("77", id=RUN)], time.monotonic() + 5)
    except AdapterError:
        return
    assert all(one.condition is not Condition.EXITED for one in seen.observations[RUN])


@given(start=st.sampled_from([10**30, -(10**30), 2**63, 0]), flags=st.sampled_from([10**30, -1, 0]))
@fuzz(12)
def test_absurd_numbers(start: int, flags: int) -> None:
    fields = stat_line(77, "x", flags).split()
    fields[21] = str(start).encode()
    environ = f"PREFECT__FLOW_RUN_ID={RUN}\0".encode()
    scope = a_scope({"77/stat": b" ".join(fields), "77/environ": environ, "77/status": b"Uid:\t0\n"})
    try:
        scope.observe([flow_run("77", id=RUN)], time.monotonic() + 5)
    except AdapterError:
        return
