"""Explores one setting, or looks for one seeded bug: what a process of its own is given to do."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

from .invariants import check
from .node import Node, Seen
from .passes import Passes
from .seeds import SEEDS, Seed
from .setting import Setting
from .steady import check_guards_let_go, check_left_alone, check_tables
from .walk import Graph
from .wary import CALM, Wary

A_FEW = (Node(), Node("RUNNING"), Node("RUNNING", age=30, mine=Seen(0)), Node("RUNNING", age=30))


@dataclass(frozen=True)
class Explored:
    setting: Setting
    nodes: int
    edges: int
    decisions: int  # calls of the rules and of the guards
    series: int  # of passes with nothing but time between them
    slowest: float  # seconds from a death to its settlement
    verdicts: Counter[str]
    seconds: float  # of one processor


def explore(setting: Setting) -> Explored:
    began = time.process_time()
    graph = Graph(Passes(setting), check).explore()
    check_tables(graph.passes, graph.cores)
    series, slowest = check_left_alone(graph.passes, _tables(graph))
    if not setting.is_calm:
        series += check_guards_let_go(graph.passes, graph.waries)
    return Explored(
        setting=setting,
        nodes=len(graph.parents),
        edges=graph.edges.total(),
        decisions=graph.passes.judged + graph.passes.guarded,
        series=series,
        slowest=slowest,
        verdicts=graph.trials.verdicts,
        seconds=time.process_time() - began,
    )


def seeded(name: str) -> tuple[str, float]:
    """What the walk says of a core with that bug (empty: it found nothing), and the seconds of one processor."""
    seed, began, told = next(one for one in SEEDS if one.name == name), time.process_time(), ""
    with seed.apply():
        try:
            _look_for(seed)
        except AssertionError as error:
            told = str(error)
    return told, time.process_time() - began


def _look_for(seed: Seed) -> None:
    passes = Passes(seed.setting)
    if seed.is_of_time:
        check_left_alone(passes, A_FEW)
        check_guards_let_go(passes, [Wary(), CALM])
    else:
        Graph(passes, check).explore()


def _tables(graph: Graph) -> list[Node]:
    """One node for each that rules can tell apart; with a second scope, of first attempts only."""
    nodes = dict.fromkeys(node.table for node in graph.cores)
    return [node for node in nodes if not graph.passes.setting.is_calm or (node.attempt == 1 and not node.left)]
