"""Every world of a root and a subflow, and that the walk would find what is wrong."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace

import pytest

from reconciler.model import Verdict

from .claims import never_worse, result_of, violations
from .seeds import SEEDS, Seed
from .world import BLIND, KIDS, SIGNS, worlds

LIMIT = 20.0  # seconds of CPU


def test_every_world() -> None:
    began, seen = time.process_time(), Counter[str]()
    for world in worlds():
        result = result_of(world)
        assert not (told := next(violations(result), None)), told
        seen[f"{result.finding.verdict} {result.finding.rule}"] += 1
        seen[str(result.finding.guard)] += 1
    took = time.process_time() - began
    print(f"{took:.1f} s", dict(seen))
    verdicts = {"HEALTHY", "UNKNOWN", "WAITING", "UNMANAGED", "ZOMBIE", "HELD"}
    assert {f"{verdict} {rule}" for verdict in verdicts for rule in "12"} <= seen.keys(), "the world is too small"
    assert took < LIMIT


def test_more_life_or_less_sight_never_makes_a_zombie() -> None:
    """From each world without a sign of life to the same one with what shows life, or hides it."""
    changed = 0
    for world in worlds():
        if world.look != "second" or world.sign != "none" or world.policy not in ("default", "both"):
            continue
        before = result_of(world)
        if before.finding.verdict is Verdict.ZOMBIE:
            continue
        others = [replace(world, sign=sign) for sign in SIGNS[1:] if world.kid == KIDS[0]]
        others += [replace(world, shown=shown) for shown in ("alive", "alive in b", *BLIND) if world.is_told]
        for other in others:
            after = result_of(other, before.root, before.kid).finding
            assert never_worse(before.finding, after), f"{world}\n{other}\n{after.reason}"
            changed += 1
    assert changed > 1000


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.name)
def test_a_seeded_bug_is_found(seed: Seed) -> None:
    with seed.apply():
        told = next(
            (why for world in worlds(seed.root) for why in violations(result_of(world)) if seed.violates in why), ""
        )
    print(told)
    assert told, "the walk found nothing"
