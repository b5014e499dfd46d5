"""What an operator reads, and what makes an absence count."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.model import Place, RunMapping, Verdict

from .spec import (
    case,
    exited,
    gone,
    look,
    resource,
    run,
    scope,
    sighting,
    unknown_namespace,
    vanished,
    verdict,
)


def test_exclusive_mapping_makes_absence_count() -> None:
    r = run()
    finding = verdict(case(r, look(gone(r))), scope("a", exclusive=True))
    assert (finding.verdict, finding.rule) == (Verdict.ZOMBIE, "7")


def test_a_pid_in_a_namespace_that_is_unknown_there_needs_a_sighting() -> None:
    r = run()
    one = case(r, look(unknown_namespace(r), place=Place.HERE))
    finding = verdict(one, scope("a", exclusive=True))
    assert (finding.verdict, finding.rule) == (Verdict.UNMANAGED, "5")
    assert finding.reason == (
        "Docker container res-1 on engine a was not found, and namespace 'preview-7' does not exist, "
        "and nothing of this attempt was ever seen in scope 'a'"
    )
    bare = replace(unknown_namespace(r), resource=None)
    assert verdict(case(r, look(bare)), scope("a", exclusive=True)).reason.startswith("its infrastructure was not")

    seen = case(r, look(unknown_namespace(r), sightings=(sighting(r),)))
    finding = verdict(seen)
    assert (finding.verdict, finding.rule) == (Verdict.ZOMBIE, "7")
    assert "'preview-7' does not exist; last seen running" in finding.reason


def test_and_so_does_the_end_of_another_resource_than_that_pid_names() -> None:
    r = run(pid="preview-7:res-9")
    named = resource(r, name="res-9")
    one = case(r, look(exited(r), replace(unknown_namespace(r), resource=named)))
    assert verdict(one, scope("a", exclusive=True)).verdict is Verdict.UNMANAGED
    assert verdict(case(r, look(exited(r), gone(r, resource=named))), scope("a", exclusive=True)).rule == "7"


def test_a_failed_part_voids_every_gone_of_the_scope() -> None:
    finding = verdict(vanished(), scope("a", incomplete="one page is missing"))
    assert finding.verdict is Verdict.UNKNOWN
    assert "one page is missing" in finding.reason


@pytest.mark.parametrize(
    ("reason", "ended", "words"),
    [
        ("is running", None, "; last seen running 11:58:30 UTC; "),
        ("has a pod that is starting", None, "; last seen 11:58:30 UTC: it has a pod that is starting; "),
        ("exited with code 137", 100, "; when last seen, 11:58:30 UTC, it exited with code 137; "),
        ("was killed: out of memory", 100, "; when last seen, 11:58:30 UTC, it was killed: out of memory; "),
    ],
)
def test_what_was_last_seen_is_told_in_a_sentence(reason: str, ended: float | None, words: str) -> None:
    r = run()
    before = replace(sighting(r, ended=ended), reason=reason)
    finding = verdict(case(r, look(gone(r), sightings=(before,))))
    assert words in finding.message


def test_reasons_are_sentences_for_the_operator() -> None:
    r = run()
    assert verdict(case(r, look(exited(r)))).message == (
        "Docker container res-1 on engine a exited with code 137 at 11:59:00 UTC; no final state was reported. "
        "Set by prefect-reconciler."
    )
    assert verdict(vanished()).message == (
        "Docker container res-1 on engine a was removed; last seen running 11:58:30 UTC; no final state was reported. "
        "Set by prefect-reconciler."
    )


def test_unmanaged_names_the_line_that_would_change_it() -> None:
    r = run()
    assert "exclusive = true" in verdict(case(r, look(gone(r)))).reason
    assert 'work_pools = ["pool"]' in verdict(case(run())).reason


def test_unmanaged_says_that_the_pool_names_the_cluster() -> None:
    finding = verdict(case(run(worker_type="kubernetes", pool_names_place=True)))
    assert (finding.verdict, finding.rule) == (Verdict.UNMANAGED, "5")
    assert finding.reason == (
        "its work pool 'pool' (or the run itself) carries its own cluster_config, which names the cluster: "
        'map it with `work_pools = ["pool"]` on that cluster\'s scope'
    )


def test_a_worker_type_maps_no_run_whose_pool_names_its_place() -> None:
    plain, named = run(worker_type="kubernetes"), run(worker_type="kubernetes", pool_names_place=True)
    by_type, types = RunMapping(worker_types=frozenset({"kubernetes"})), frozenset({"kubernetes"})
    assert by_type.covers(plain)
    assert not by_type.covers(named)
    for explicit in (
        RunMapping(work_pools=frozenset({"pool"})),
        RunMapping(work_pools=frozenset({"pool"}), worker_types=types),
    ):
        assert explicit.covers(named)
