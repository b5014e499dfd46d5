"""The rhythm of the daemon, its end, and its watchdog, with passes that misbehave. In processes of their own."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rigs.daemon import NotifySocket
from tests.rigs.polling import wait_until
from tests.rigs.processes import Program, inherited_environment


class Odd:
    """One misbehaving daemon with a notify socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notify = NotifySocket(folder / "notify")
        self.program: Program | None = None

    def start(self, kind: str) -> Odd:
        command = [sys.executable, "-m", "tests.rigs.odd_daemon", kind]
        environ = inherited_environment(NOTIFY_SOCKET=str(self.notify.path))
        self.program = Program(command, self.folder / "log", environ, cwd=Path(__file__).parents[1])
        return self

    @property
    def text(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def passes(self) -> int:
        return self.text.count("running ")

    def has_passed(self, times: int) -> None:
        assert self.program is not None
        program = self.program
        wait_until(lambda: program.must_run() and self.passes >= times, f"{times} passes", 30)

    def ends(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        assert self.program is not None
        began = time.monotonic()
        self.program._process.send_signal(number)
        return self.program.wait(30), time.monotonic() - began


@pytest.fixture
def odd(tmp_path: Path) -> Iterator[Odd]:
    odd = Odd(tmp_path)
    yield odd
    if odd.program is not None:
        odd.program.end(1)
    odd.notify.close()


def test_a_plain_life(odd: Odd) -> None:
    odd.start("well").has_passed(4)
    code, seconds = odd.ends()
    assert code == 0
    assert seconds < 2
    lines = odd.notify.lines()
    assert lines[:3] == ["STATUS=the first pass is under way", "WATCHDOG=1", "WATCHDOG=1"]
    assert lines.count("READY=1") == 1
    assert lines.index("READY=1") == 3, "right after the end of the first pass"
    assert lines.count("WATCHDOG=1") >= 2 * 3
    wait_until(lambda: odd.notify.last_words() == ["STOPPING=1", "STATUS=stopping"], "the last words", 5)


def test_a_pass_that_raises_is_not_the_last_one(odd: Odd) -> None:
    odd.start("raises").has_passed(4)
    assert odd.ends()[0] == 0
    assert "this is a bug of prefect-reconciler" in odd.text
    assert any("RuntimeError: an unforeseen thing" in status for status in odd.notify.statuses())


def test_slow_passes_never_overlap_nor_pile_up(odd: Odd) -> None:
    odd.start("slow").has_passed(3)
    began, before = time.monotonic(), odd.passes
    odd.has_passed(before + 3)
    assert time.monotonic() - began > 2.5, "one after the other, although each is due every 0.3 s"
    assert odd.ends()[0] == 0
    assert "running 2" not in odd.text
    assert "a pass is due and the last one has not ended yet" in odd.text


def test_a_hung_pass_starves_the_watchdog_and_does_not_hinder_the_end(odd: Odd) -> None:
    odd.start("hangs").has_passed(3)
    wait_until(lambda: odd.notify.lines().count("WATCHDOG=1") == 5, "both of pass 1 and 2, and the begin of 3", 10)
    time.sleep(1.5)  # five intervals: nothing more may come
    assert odd.notify.lines().count("WATCHDOG=1") == 5
    code, seconds = odd.ends()
    assert (code, seconds < 8) == (0, True)
    assert "left a pass that did not end" in odd.text


def test_a_write_in_progress_is_finished(odd: Odd) -> None:
    odd.start("writes")
    wait_until(lambda: "writing" in odd.text, "a write to begin", 30)
    code, seconds = odd.ends()
    assert (code, 1 < seconds < 8) == (0, True)
    assert "written" in odd.text
    assert odd.text.count("told") >= 2, "and told"


def test_a_write_that_hangs_is_left_in_time(odd: Odd) -> None:
    odd.start("writes for ever")
    wait_until(lambda: "writing" in odd.text, "a write to begin", 30)
    code, seconds = odd.ends()
    assert (code, 6 < seconds < 8) == (0, True)


def test_stopped_and_continued_it_goes_on(odd: Odd) -> None:
    """As `docker pause` does. Longer than any wait of ours."""
    odd.start("well").has_passed(2)
    assert odd.program is not None
    odd.program._process.send_signal(signal.SIGSTOP)
    time.sleep(3)
    assert odd.program.running
    odd.program._process.send_signal(signal.SIGCONT)
    odd.has_passed(odd.passes + 3)
    assert odd.ends()[0] == 0


def test_control_c_ends_it_too(odd: Odd) -> None:
    odd.start("well").has_passed(1)
    assert odd.ends(signal.SIGINT)[0] == 0


def test_hangup_reads_the_configuration_and_passes_at_once(odd: Odd) -> None:
    odd.start("well").has_passed(2)
    assert odd.program is not None
    odd.program._process.send_signal(signal.SIGHUP)
    wait_until(lambda: odd.notify.lines().count("READY=1") == 2, "the reload to be confirmed", 10)
    lines = odd.notify.lines()
    assert "RELOADING=1" in lines
    assert lines.index("RELOADING=1") > lines.index("READY=1")
    odd.has_passed(odd.passes + 2)
    assert odd.ends()[0] == 0


def test_a_reload_that_fails_in_an_unforeseen_way_is_a_refusal(odd: Odd) -> None:
    odd.start("rebuilds badly").has_passed(2)
    assert odd.program is not None
    odd.program._process.send_signal(signal.SIGHUP)
    wait_until(lambda: any("was refused" in status for status in odd.notify.statuses()), "the refusal", 10)
    assert "no file descriptors left" in odd.text
    odd.has_passed(odd.passes + 2)
    assert odd.ends()[0] == 0


def test_a_storm_of_hangups_does_not_hide_the_end(odd: Odd) -> None:
    odd.start("hangs up on itself").has_passed(2)
    code, seconds = odd.ends()
    assert (code, seconds < 3) == (0, True)


def test_a_reload_in_the_first_pass_makes_nothing_ready(odd: Odd) -> None:
    odd.start("slow")
    wait_until(lambda: odd.passes == 1, "the first pass", 30, every=0.02)
    assert odd.program is not None
    odd.program._process.send_signal(signal.SIGHUP)
    wait_until(lambda: "configuration read again" in odd.text, "the reload", 10, every=0.02)
    assert not odd.notify.has("READY=1")
    wait_until(lambda: odd.notify.has("READY=1"), "readiness", 10)
    assert odd.ends()[0] == 0


def test_a_reload_that_hangs_hinders_neither_the_passes_nor_the_end(odd: Odd) -> None:
    """A key file on a dead network share, for one."""
    odd.start("rebuilds for ever").has_passed(2)
    assert odd.program is not None
    odd.program._process.send_signal(signal.SIGHUP)
    wait_until(lambda: odd.notify.has("RELOADING=1"), "the reload to begin", 10)
    odd.has_passed(odd.passes + 3)
    code, seconds = odd.ends()
    assert (code, seconds < 3) == (0, True)
