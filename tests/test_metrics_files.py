"""docs/metrics.md, the alerts and the dashboard tell of the metrics that exist, all of them and no others."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric

from reconciler.gauges import PREFIX, SLUGS
from reconciler.metrics import Metrics
from reconciler.model import Cause, Guard, OutcomeKind, Verdict
from reconciler.news import News
from reconciler.plan import Finding, Orphan, Plan
from tests.conftest import missing
from tests.spec import NOW, resource, run
from tests.test_metrics import empty

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
RULES = ROOT / "config/prometheus-rules.yaml"
RULES_TEST = ROOT / "tests/prometheus_rules_test.yaml"
DASHBOARD = json.loads((ROOT / "config/grafana-dashboard.json").read_text(encoding="utf-8"))
SCRAPED = {"job", "instance"}  # labels that Prometheus itself adds


def rich() -> dict[str, Metric]:
    """Every family by its name, after a cycle in which all there is to show is shown."""
    metrics = Metrics(version="1", process=False)
    held = Finding(run=run(), verdict=Verdict.HELD, rule="7", reason="", scope="a", guard=Guard.QUIET)
    unknown = Finding(run=run(), verdict=Verdict.UNKNOWN, rule="4", reason="", scope="a")
    orphan = Orphan(resource=resource(run()), run=run(), since=NOW)
    report = empty(
        plan=Plan(findings=(held, unknown)),
        duration=timedelta(seconds=1),
        shadows={"right": 1},
        orphans={"a": (orphan,)},
    )
    metrics.note(News(report, (held, unknown)))
    suffix = {"counter": "_total", "info": "_info"}
    return {f"{one.name}{suffix.get(one.type, '')}": one for one in metrics.registry.collect()}


def labels_of(family: Metric) -> set[str]:
    return {label for sample in family.samples for label in sample.labels} - {"le"}


FAMILIES = rich()
# the names under which they can be asked for
ASKABLE = {
    name: labels_of(family) | ({"le"} if name.endswith("_bucket") else set())
    for family in FAMILIES.values()
    for name in {sample.name for sample in family.samples if not sample.name.endswith("_created")}
}


def table(heading: str) -> Iterator[list[str]]:
    """The cells of each row of the table below that header row."""
    _, _, rows = DOCUMENT.partition(f"{heading}\n")
    for line in rows.splitlines()[1:]:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split("|")]


def alerts() -> dict[str, str]:
    """The expression of each alert; each is written in one line."""
    text = RULES.read_text(encoding="utf-8")
    found = re.findall(r"- alert: (\w+)\n +expr: (.+)\n", text)
    assert len(found) == text.count("alert:") == text.count("expr:")
    return dict(found)


def shown() -> list[str]:
    """Every expression of the dashboard, as Prometheus gets it from Grafana."""
    targets = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return [expr.replace("$__rate_interval", "5m").replace("$instance", ".+") for expr in targets]


def in_question() -> list[str]:
    return [*alerts().values(), *shown()]


class TestTheTable:
    def test_tells_every_metric_with_its_type_and_labels(self) -> None:
        told = {
            f"{PREFIX}_{name.strip('`')}": (kind, set(re.findall(r"`(\w+)`", labels)))
            for name, kind, labels, *_ in table("| name | type | labels | unit | meaning |")
        }
        there = {
            name: ("gauge" if family.type == "info" else family.type, labels_of(family))
            for name, family in FAMILIES.items()
        }
        assert told == there

    def test_of_guards_has_all_of_them(self) -> None:
        assert [row[0].strip("`") for row in table("| guard | meaning | what to do |")] == [str(one) for one in Guard]

    def test_of_reasons_is_that_of_the_code(self) -> None:
        told = {(row[1], row[2]): row[0].strip("`") for row in table("| reason | verdict | rule | meaning |")}
        assert told == {(str(verdict), rule): slug for (verdict, rule), slug in SLUGS.items()}

    def test_of_alerts_has_all_of_them(self) -> None:
        severities = re.findall(r"severity: (\w+)", RULES.read_text(encoding="utf-8"))
        told = [(row[0].strip("`"), row[2]) for row in table("| alert | fires when | severity |")]
        assert told == list(zip(alerts(), severities, strict=True))

    def test_files_that_are_named_exist(self) -> None:
        for target in re.findall(r"\]\(([^)#:]+)\)", DOCUMENT):
            assert (ROOT / "docs" / target).exists(), target


@pytest.mark.parametrize("expr", in_question())
def test_an_expression_uses_what_exists(expr: str) -> None:
    names = set(re.findall(rf"{PREFIX}_[a-z_]+", expr))
    assert names or 'up{job="prefect-reconciler"}' in expr
    assert names <= ASKABLE.keys()
    for name, matchers in re.findall(rf"({PREFIX}_[a-z_]+){{([^}}]*)}}", expr):
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) <= ASKABLE[name] | SCRAPED, expr
    known = SCRAPED.union(*(ASKABLE[name] for name in names))
    for group in re.findall(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)", expr):
        assert {label.strip() for label in group.split(",")} <= known, expr


def test_values_that_expressions_name_exist() -> None:
    reasons, verdicts = {*map(str, Guard), *SLUGS.values()}, set(map(str, Verdict))
    for expr in in_question():
        for value in re.findall(r'reason\S?[=~]"([^"]+)"', expr):
            assert set(value.split("|")) <= reasons
        for value in re.findall(r'verdict\S?[=~]"([^"]+)"', expr):
            assert set(value.split("|")) <= verdicts
        for value in re.findall(r'outcome\S?[=~]"([^"]+)"', expr):
            assert set(value.split("|")) <= set(map(str, OutcomeKind))


def test_every_cause_is_explained() -> None:
    (row,) = (cells for cells in table("| name | type | labels | unit | meaning |") if "settled_causes" in cells[0])
    assert [word for word in re.findall(r"`(\w+)`", row[-1]) if word != "accepted"] == [str(cause) for cause in Cause]


def test_every_metric_is_on_the_dashboard_or_the_sum_of_what_is() -> None:
    asked = set(re.findall(rf"{PREFIX}_[a-z_]+", " ".join(in_question())))
    left = {name for name in FAMILIES if not any(one.startswith(name) for one in asked)}
    assert left == {f"{PREFIX}_last_cycle_timestamp_seconds", f"{PREFIX}_configuration_reloads_total"}


class TestTheDashboard:
    def test_can_be_imported_anywhere(self) -> None:
        sources = [DASHBOARD, *DASHBOARD["panels"], *(t for panel in DASHBOARD["panels"] for t in panel["targets"])]
        named = [one["datasource"] for one in sources if "datasource" in one]
        assert len(named) == len(sources) - 1
        assert all(one == {"type": "prometheus", "uid": "${datasource}"} for one in named)
        variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
        assert variables["datasource"]["type"] == "datasource"
        assert re.findall(rf"{PREFIX}_[a-z_]+", variables["instance"]["definition"]) == [f"{PREFIX}_info"]
        assert "id" not in DASHBOARD

    def test_legends_name_labels_that_are_left(self) -> None:
        for panel in DASHBOARD["panels"]:
            for target in panel["targets"]:
                names = re.findall(rf"{PREFIX}_[a-z_]+", target["expr"])
                grouped = re.match(r".*\bby \(([^)]*)\)", target["expr"])
                left = set(grouped[1].split(", ")) if grouped else SCRAPED.union(*(ASKABLE[name] for name in names))
                assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= left, panel["title"]

    def test_panels_do_not_overlap(self) -> None:
        cells = [cell for panel in DASHBOARD["panels"] for cell in _cells(panel["gridPos"])]
        assert len(cells) == len(set(cells))
        assert max(x for x, _ in cells) < 24
        assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def _cells(place: dict[str, int]) -> Iterator[tuple[int, int]]:
    for x in range(place["x"], place["x"] + place["w"]):
        for y in range(place["y"], place["y"] + place["h"]):
            yield x, y


class TestWithPromtool:
    @pytest.fixture(autouse=True)
    def promtool(self) -> None:
        if shutil.which("promtool") is None:
            missing("No promtool on this machine; Debian's package prometheus has it.")

    def run(self, *arguments: object, text: str | None = None) -> str:
        command = ["promtool", *map(str, arguments)]
        done: Any = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return str(done.stdout)

    def test_the_rules_are_valid(self) -> None:
        assert f"SUCCESS: {len(alerts())} rules found" in self.run("check", "rules", "--lint-fatal", RULES)

    def test_each_alert_fires_when_it_must_and_not_before(self) -> None:
        fired = set(re.findall(r'{alertname="(\w+)"}', RULES_TEST.read_text(encoding="utf-8")))
        assert fired == alerts().keys(), "an alert without a test that makes it fire"
        assert "SUCCESS" in self.run("test", "rules", RULES_TEST)

    def test_the_dashboard_s_expressions_are_valid(self, tmp_path: Path) -> None:
        path = tmp_path / "dashboard.yaml"
        rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(shown())]
        path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}), encoding="utf-8")
        assert f"SUCCESS: {len(shown())} rules found" in self.run("check", "rules", path)

    def test_a_broken_expression_would_be_found(self, tmp_path: Path) -> None:
        path = tmp_path / "broken.yaml"
        rules = [{"record": "panel:0", "expr": "sum by (scope (prefect_reconciler_runs)"}]
        path.write_text(json.dumps({"groups": [{"name": "broken", "rules": rules}]}), encoding="utf-8")
        with pytest.raises(AssertionError, match="could not parse"):
            self.run("check", "rules", path)

    def test_the_exposition_is_valid(self) -> None:
        body, _ = Metrics(version="1").exposition()
        self.run("check", "metrics", text=body.decode())
