"""The systemd units: what systemd itself says of them, and what the daemon and docs/systemd.md need of them.

systemd is not running here: each unit is checked as a file, in a root folder of its own that has its programs.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler import report
from reconciler.settings import Settings, durations, longest_cycle, longest_silence
from tests.conftest import missing

ROOT = Path(__file__).parents[1]
UNITS = ROOT / "systemd"
SERVICES = ["reconciler.service", "reconciler-once.service"]
DROP_INS = sorted(path.name for path in (UNITS / "drop-ins").iterdir())
PROGRAMS = ["opt/prefect-reconciler/bin/reconciler", "opt/prefect-reconciler/bin/reconcile", "bin/kill"]
DOCUMENT = (ROOT / "docs" / "systemd.md").read_text(encoding="utf-8")
STOPS_WITHIN = timedelta(seconds=8)
HIGHEST_EXPOSURE = 2.5
BETWEEN_VERSIONS = 0.3  # systemd weighs a little differently from version to version


def options(name: str, section: str = "Service") -> list[tuple[str, str]]:
    """The settings of one section, in their order."""
    text = (UNITS / name).read_text(encoding="utf-8")
    body = text.partition(f"[{section}]\n")[2].partition("\n[")[0]
    pairs = [line.partition("=") for line in body.splitlines() if line and not line.startswith("#")]
    return [(key, value) for key, _, value in pairs]


def service(name: str = "reconciler.service") -> dict[str, str]:
    return dict(options(name))


def span(value: str) -> timedelta:
    return durations.parse(value.replace("min", "m"))


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root folder with systemd's own units and our programs, but none of our units."""
    if shutil.which("systemd-analyze") is None:
        missing("No systemd-analyze (package systemd) on this machine.")
    root = tmp_path_factory.mktemp("machine")
    shutil.copytree("/usr/lib/systemd/system", root / "usr/lib/systemd/system", symlinks=True)
    for program in PROGRAMS:
        path = root / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    return root


@pytest.fixture
def installed(machine: Path) -> Iterator[Path]:
    """Our units where an operator puts them."""
    folder = machine / "etc/systemd/system"
    folder.mkdir(parents=True)
    for path in UNITS.glob("reconciler*"):
        shutil.copy(path, folder)
    yield folder
    shutil.rmtree(folder)


def add(installed: Path, drop_in: str, unit: str) -> None:
    folder = installed / f"{unit}.d"
    folder.mkdir()
    shutil.copy(UNITS / "drop-ins" / drop_in, folder)


def analyze(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", "--no-pager", f"--root={installed.parents[2]}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def verify(installed: Path, unit: str) -> None:
    """A warning about the unit is a failure; one about a unit that came with systemd is not ours."""
    done = analyze(installed, "--man=no", "--recursive-errors=no", "verify", str(installed / unit))
    theirs = str(installed.parents[2] / "usr/lib/systemd/system")
    assert [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith(theirs)] == []
    assert done.returncode == 0


def exposure(installed: Path, unit: str) -> float:
    """The score of `systemd-analyze security`, which also judges the threshold (exposure x 10)."""
    threshold = f"--threshold={HIGHEST_EXPOSURE * 10:.0f}"
    done = analyze(installed, "--offline=true", threshold, "security", unit)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(rf"Overall exposure level for {re.escape(unit)}: ([0-9.]+)", done.stdout)
    assert found
    return float(found[1])


def documented_exposure(row: str) -> object:
    found = re.search(rf"^\| {re.escape(row)} \| ([0-9.]+) \|$", DOCUMENT, re.MULTILINE)
    assert found, f"docs/systemd.md has no exposure for {row}"
    return pytest.approx(float(found[1]), abs=BETWEEN_VERSIONS)


@pytest.mark.parametrize("unit", [*SERVICES, "reconciler-once.timer"])
def test_systemd_has_nothing_to_say_about_a_unit(installed: Path, unit: str) -> None:
    verify(installed, unit)


@pytest.mark.parametrize("unit", SERVICES)
def test_the_exposure_is_as_documented(installed: Path, unit: str) -> None:
    assert exposure(installed, unit) == documented_exposure(unit)


@pytest.mark.parametrize("unit", SERVICES)
@pytest.mark.parametrize("drop_in", DROP_INS)
def test_a_unit_with_a_drop_in_is_as_documented(installed: Path, unit: str, drop_in: str) -> None:
    add(installed, drop_in, unit)
    verify(installed, unit)
    assert exposure(installed, unit) == documented_exposure(f"with {drop_in}")


def test_all_drop_ins_together(installed: Path) -> None:
    add(installed, DROP_INS[0], "reconciler.service")
    for drop_in in DROP_INS[1:]:
        shutil.copy(UNITS / "drop-ins" / drop_in, installed / "reconciler.service.d")
    verify(installed, "reconciler.service")
    assert exposure(installed, "reconciler.service") <= HIGHEST_EXPOSURE


def test_a_missing_program_would_be_told(installed: Path) -> None:
    unit = installed / "reconciler.service"
    unit.write_text(unit.read_text().replace("bin/reconciler ", "bin/absent "))
    with pytest.raises(AssertionError, match="is not executable"):
        verify(installed, unit.name)


def test_an_unknown_setting_would_be_told(installed: Path) -> None:
    unit = installed / "reconciler.service"
    unit.write_text(unit.read_text().replace("UMask=", "Umask="))
    with pytest.raises(AssertionError, match="Unknown key"):
        verify(installed, unit.name)


def test_the_services_are_hardened_alike() -> None:
    """systemd has no include."""
    daemon, once = options("reconciler.service"), options("reconciler-once.service")
    shared = daemon[daemon.index(("LoadCredential", "prefect-api-key")) :]
    assert once[-len(shared) :] == shared
    assert ("SystemCallErrorNumber", "EPERM") in shared


def test_the_watchdog_lets_the_longest_pass_end() -> None:
    defaults = Settings()
    longest = longest_cycle(defaults)
    assert span(service()["WatchdogSec"]) > longest_silence(defaults)
    assert span(service()["TimeoutStartSec"]) > longest
    assert span(service("reconciler-once.service")["TimeoutStartSec"]) > longest


def test_the_daemon_speaks_to_systemd_and_is_always_started_again() -> None:
    unit = service()
    assert (unit["Type"], unit["NotifyAccess"], unit["Restart"]) == ("notify", "main", "always")
    assert dict(options("reconciler.service", "Unit"))["StartLimitIntervalSec"] == "0"
    assert unit["RestartPreventExitStatus"] == f"{report.EXIT_USAGE} {report.EXIT_CONFIG}"
    assert unit["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert span(unit["TimeoutStopSec"]) > STOPS_WITHIN


def test_state_and_key_are_where_the_settings_look() -> None:
    for name in SERVICES:
        unit = service(name)
        assert Path("/var/lib", unit["StateDirectory"]) == Settings.model_fields["state_dir"].default
        assert unit["StateDirectoryMode"] == "0700"
        # without a path, a credential that is not there is no error (systemd#32667)
        assert unit["LoadCredential"] == "prefect-api-key"


def test_an_answer_without_an_end_ends_this_service_alone() -> None:
    """Measured with 10,000 runs in flight: 155 MB, five threads."""
    for name in SERVICES:
        assert service(name)["MemoryMax"] == "512M"
        assert int(service(name)["TasksMax"]) == 128
    container = (ROOT / "docs" / "container.md").read_text(encoding="utf-8")
    assert "--memory 512m --pids-limit 128" in container
    example = (ROOT / "config" / "examples" / "kubernetes" / "reconciler.yaml").read_text(encoding="utf-8")
    assert "limits: {memory: " in example


def test_the_timer_s_service_never_writes_and_shows_zombies_as_a_success() -> None:
    unit = service("reconciler-once.service")
    assert {"--dry-run", "--exit-code"} < set(unit["ExecStart"].split())
    assert unit["SuccessExitStatus"] == str(report.EXIT_ZOMBIES)
    timer = dict(options("reconciler-once.timer", "Timer"))
    assert (timer["OnCalendar"], timer["Persistent"]) == ("*:0/5", "yes")
    assert span(timer["RandomizedDelaySec"])


def test_what_the_document_promises_is_in_a_unit() -> None:
    files = [*UNITS.glob("reconciler*"), *(UNITS / "drop-ins").iterdir()]
    lines = {line for path in files for line in path.read_text(encoding="utf-8").splitlines()}
    promised = re.findall(r"`([A-Z][A-Za-z]+=[^`\s][^`]*|CapabilityBoundingSet=)`", DOCUMENT)
    assert len(promised) > 15
    assert [setting for setting in promised if setting not in lines] == []


def test_what_the_document_says_is_open_is_not_set() -> None:
    keys = {key for name in SERVICES for key, _ in options(name)}
    assert not keys & {"PrivateNetwork", "IPAddressDeny", "ProcSubset", "DeviceAllow", "RootDirectory"}


def test_every_drop_in_has_its_line_in_the_document() -> None:
    assert [name for name in DROP_INS if name not in DOCUMENT] == []
    assert len(DOCUMENT.splitlines()) < 120
