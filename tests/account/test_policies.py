"""What another policy would have done, told of single lines: and what single lines cannot tell."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.account.policies import Effect
from reconciler.model import Guard, Verdict
from reconciler.plan import Mode, Policy
from reconciler.snapshot import ScopeView, Snapshot
from tests.account.test_replay import replayed, summary, write
from tests.spec import NOW, POLICY, ago, alive, case, exited, gone, look, run, scope, sighting, snapshot, vanished
from tests.test_evidence import report_of

OBSERVE = replace(POLICY, mode=Mode.OBSERVE)


def waiting(*scopes: ScopeView) -> Snapshot:
    """One run that waits for `grace`: its history was not read."""
    of = run(age=20)
    one = replace(case(of, look(gone(of), sightings=(sighting(of),)), confirmed=False), history=None)
    return snapshot(one, scopes=scopes)


class TestTheBreaker:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        report = report_of(snapshot(*[vanished() for _ in range(4)]))
        assert {finding.guard for finding in report.plan.findings} == {Guard.BREAKER}
        return write(tmp_path / "lines", report)

    @pytest.mark.parametrize("change", ["breaker_count=5", "breaker_count=100"])
    def test_that_is_relaxed_lets_go(self, path: Path, change: str) -> None:
        assert {(one.effect, one.other and one.other.verdict) for one in replayed(path, change)} == {
            (Effect.SOONER, Verdict.ZOMBIE)
        }
        assert "4 runs would have been settled sooner" in summary(path, change)[-1]

    @pytest.mark.parametrize("change", ["breaker_count=4", "breaker_share=1.0"])
    def test_that_would_have_tripped_all_the_same_holds(self, path: Path, change: str) -> None:
        assert {one.effect for one in replayed(path, change)} == {Effect.NONE}
        assert "no decision would have been another" in summary(path, change)[-1]

    def test_the_share_counts(self, tmp_path: Path) -> None:
        herd = [case(of, look(alive(of), sightings=(sighting(of),))) for of in (run() for _ in range(4))]
        report = report_of(snapshot(*[vanished() for _ in range(4)], *herd))  # 4 of 8
        path = write(tmp_path / "lines", report)
        for change, freed in (("breaker_share=0.5", 0), ("breaker_share=0.51", 4)):
            assert [one.effect for one in replayed(path, change)].count(Effect.SOONER) == freed

    @pytest.mark.parametrize("change", ["breaker_count=2", "breaker_share=0.1"])
    def test_that_is_stricter_is_said_to_be_unknown(self, tmp_path: Path, change: str) -> None:
        path = write(tmp_path / "lines", report_of(snapshot(vanished(), vanished())))
        *_, effects, caution = summary(path, change)
        assert "no decision would have been another" in effects
        assert caution.startswith("A stricter breaker looks at all runs of a pass")


class TestWhereNothingIsWritten:
    @pytest.mark.parametrize(
        ("policy", "place", "changes"),
        [
            (POLICY, scope(), ["mode=observe"]),
            (OBSERVE, scope(), []),
            (POLICY, scope(observes=True), []),
            (POLICY, scope(distrusted_since=ago(100)), []),
            (POLICY, scope(), ["exclude_work_pools=pool"]),
            (replace(POLICY, only_pools=frozenset({"other"})), scope(), []),
        ],
    )
    def test_nothing_is_sooner(self, tmp_path: Path, policy: Policy, place: ScopeView, changes: list[str]) -> None:
        path = write(tmp_path / "lines", report_of(waiting(place), policy))
        (found,) = replayed(path, "grace=1s", *changes)
        assert found.effect is Effect.OTHERWISE

    def test_where_something_is_it_is_sooner(self, tmp_path: Path) -> None:
        path = write(tmp_path / "lines", report_of(waiting()))
        assert replayed(path, "grace=1s")[0].effect is Effect.SOONER

    @pytest.mark.parametrize(
        ("policy", "place"),
        [(OBSERVE, scope()), (POLICY, scope(observes=True)), (POLICY, scope(distrusted_since=ago(100)))],
    )
    def test_later_is_told_as_if_it_had_been_settled(self, tmp_path: Path, policy: Policy, place: ScopeView) -> None:
        path = write(tmp_path / "lines", report_of(snapshot(vanished(age=300), scopes=(place,)), policy))
        (found,) = replayed(path, "grace=400s")
        assert (found.effect, found.settled_at) == (Effect.LATER, NOW + timedelta(seconds=100 + 10))
        *_, effects, caution = summary(path, "grace=400s")
        assert effects.endswith("1 run would have been settled later.")
        assert caution == "What `mode` or `trust` held is compared as if it had been settled."
        assert replayed(path, "grace=2d")[0].effect is Effect.NEVER
        assert replayed(path, "grace=40s")[0].effect is Effect.NONE


class TestTheRate:
    def path(self, tmp_path: Path, count: int) -> Path:
        ended = [case(of, look(exited(of))) for of in (run(age=300 + number) for number in range(count))]
        return write(tmp_path / "lines", report_of(snapshot(*ended), replace(OBSERVE, max_settlements=3)))

    def test_more_than_one_pass_settles_are_told_with_that(self, tmp_path: Path) -> None:
        *_, effects, caution = summary(self.path(tmp_path, 4), "mode=settle")
        assert "4 runs would have been settled sooner, or settled at all" in effects
        assert "(max_settlements) was not considered" in caution

    def test_as_many_as_one_pass_settles_need_no_word(self, tmp_path: Path) -> None:
        assert "3 runs would have been settled sooner" in summary(self.path(tmp_path, 3), "mode=settle")[-1]
