"""The alert and recording rules: promtool reads them, and plays a case of each that fires and one that does not."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.monitoring import promtool
from tests.monitoring.promql import metrics

HERE = Path(__file__).parent
RULES = sorted((HERE.parent.parent / "components" / "rules").glob("*.yaml"))
CASES = sorted((HERE / "rules").glob("*.yaml"))


def known() -> set[str]:
    """Every metric that an exporter in the house gives."""
    lines = [line for path in (HERE / "metrics").glob("*.txt") for line in path.read_text().splitlines()]
    return {line for line in lines if line and not line.startswith("#")}


def rules() -> list[dict[str, Any]]:
    return [rule for path in RULES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def recorded() -> set[str]:
    return {rule["record"] for rule in rules() if "record" in rule}


def test_promtool_reads_the_rules() -> None:
    promtool.run("check", "rules", *RULES)


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_promtool_plays_the_cases(case: Path) -> None:
    promtool.run("test", "rules", case)


def test_each_alert_has_a_case_that_fires_and_one_that_stays_quiet() -> None:
    outcomes = defaultdict(set)
    for path in CASES:
        for case in yaml.safe_load(path.read_text())["tests"]:
            alert = case["name"].split()[0]
            fired = {s["labels"] for check in case["promql_expr_test"] for s in check["exp_samples"]}
            outcomes[alert].add(f'{{alertname="{alert}"}}' in fired)
    alerts = {rule["alert"] for rule in rules() if "alert" in rule}
    assert {alert for alert, both in outcomes.items() if both == {True, False}} == alerts


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    for rule in rules():
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("warning", "critical"), rule["alert"]
            assert rule["annotations"].keys() == {"summary", "description"}, rule["alert"]
            assert "for" in rule, rule["alert"]


def test_every_rule_reads_metrics_that_an_exporter_gives() -> None:
    for rule in rules():
        unknown = metrics(rule["expr"]) - known() - recorded()
        assert not unknown, rule


def test_a_name_is_recorded_or_alerted_once() -> None:
    names = [rule.get("alert") or rule["record"] for rule in rules()]
    assert len(names) == len(set(names))
