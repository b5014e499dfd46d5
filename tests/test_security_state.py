"""The state folder under attack: whoever else can write there must not be able to invent what was seen."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from reconciler.evidence_file import Evidence
from reconciler.ports import AdapterError
from reconciler.state_files import distrusted, open_private
from tests.test_cycle import Bench

MINE, ROOT = os.getuid(), 0


def folder(tmp_path: Path, mode: int) -> Path:
    path = tmp_path / "state"
    path.mkdir()
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o750, 0o555, 0o770, 0o2770])
def test_a_folder_that_only_we_and_our_group_can_write_to_is_believed(tmp_path: Path, mode: int) -> None:
    assert distrusted(folder(tmp_path, mode)) is None


@pytest.mark.parametrize("mode", [0o777, 0o707, 0o1777, 0o2777])
def test_a_folder_that_others_can_write_to_is_not(tmp_path: Path, mode: int) -> None:
    """2777 is what a kubelet makes of an emptyDir."""
    path = folder(tmp_path, mode)
    assert distrusted(path) == (
        f"others can write to {path} (mode {mode:04o}) and forge what was seen: "
        "`chmod 700` it, or name a folder inside it in `state_dir`, which is then made for this user alone"
    )
    inside = path / "inside"
    inside.mkdir(mode=0o700)
    assert distrusted(inside) is None


def test_another_group_is_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder(tmp_path, 0o770)
    os.chown(path, -1, 4712 if MINE == ROOT else os.getgid())
    monkeypatch.setattr(os, "getegid", lambda: 4713)
    assert "others can write to" in str(distrusted(path))
    path.chmod(0o750)
    assert distrusted(path) is None


def test_root_believes_the_service_s_folder_and_nobody_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder(tmp_path, 0o700)
    if MINE == ROOT:
        os.chown(path, 4711, 4711)
    monkeypatch.setattr(os, "geteuid", lambda: ROOT)
    assert distrusted(path) is None
    monkeypatch.setattr(os, "geteuid", lambda: 4712)
    assert "belongs to another user (uid " in str(distrusted(path))
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid)
    assert distrusted(path) is None


def test_a_file_that_was_open_to_others_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "evidence.jsonl"
    path.touch()
    path.chmod(0o666)
    os.close(open_private(path, os.O_RDWR))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def no_plain_file(tmp_path: Path, kind: str) -> Path:
    path, precious = tmp_path / "evidence.jsonl", tmp_path / "precious"
    precious.write_text("precious")
    if kind == "symbolic link":
        path.symlink_to(precious)
    elif kind == "hard link":
        path.hardlink_to(precious)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    return path


@pytest.mark.parametrize("kind", ["symbolic link", "hard link", "pipe", "folder"])
def test_evidence_is_led_nowhere_else(tmp_path: Path, kind: str) -> None:
    path = no_plain_file(tmp_path, kind)
    evidence, bench = Evidence(tmp_path, configuration="c", version="v"), Bench()
    bench.alive()
    bench.scope.error = AdapterError("refused")
    evidence.note(bench.run())
    (problem,) = evidence.problems
    assert str(path) in problem
    assert (tmp_path / "precious").read_text() == "precious"
    bench.outlook.close()


def test_a_file_of_somebody_else_s_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "evidence.jsonl"
    path.touch(mode=0o666)
    if MINE == ROOT:
        os.chown(path, 4711, 4711)
    monkeypatch.setattr(os, "geteuid", lambda: 4712)
    with pytest.raises(OSError, match="belongs to another user"):
        open_private(path, os.O_RDWR)


def test_root_opens_a_foreign_file_only_where_nobody_can_plant_one(tmp_path: Path) -> None:
    if MINE != ROOT:
        pytest.skip("only root can open what belongs to somebody else")
    path = folder(tmp_path, 0o700) / "evidence.jsonl"
    path.touch(mode=0o600)
    os.chown(path, 4711, 4711)
    os.close(open_private(path, os.O_RDWR))
    path.parent.chmod(0o777)
    with pytest.raises(OSError, match="belongs to another user"):
        open_private(path, os.O_RDWR)
