"""The dashboards parse, and every query in them names a metric that an exporter gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.monitoring import promtool
from tests.monitoring.promql import metrics
from tests.monitoring.test_rules import known, recorded

DASHBOARDS = sorted((Path(__file__).parent.parent.parent / "components" / "dashboards").glob("*.json"))


def load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def queries(dashboard: dict[str, Any]) -> list[str]:
    """Each query as Prometheus gets it: Grafana puts a duration in place of its variable."""
    targets = [target for panel in dashboard["panels"] for target in panel["targets"]]
    return [target["expr"].replace("$__rate_interval", "5m") for target in targets]


def test_what_the_owner_looks_for_is_there() -> None:
    assert [path.stem for path in DASHBOARDS] == ["backups", "etcd", "longhorn", "nodes", "pods", "traefik"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_query_names_a_metric_that_an_exporter_gives(path: Path) -> None:
    for query in queries(load(path)):
        assert metrics(query), query
        assert metrics(query) <= known() | recorded(), query


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_query_is_one_for_prometheus(path: Path, tmp_path: Path) -> None:
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries(load(path)))]
    as_rules = tmp_path / "queries.yaml"
    as_rules.write_text(yaml.safe_dump({"groups": [{"name": path.stem, "rules": rules}]}))
    promtool.run("check", "rules", as_rules)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_have_a_place_of_their_own(path: Path) -> None:
    dashboard = load(path)
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    assert dashboard["uid"] == f"homelab-{path.stem}"
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('sum by (a) (rate(b_total{c="d", e=~"f{2}"}[5m])) / on (x) group_left (y) z', {"b_total", "z"}),
        ("histogram_quantile(0.99, sum(le_bucket)) > 1e9 or vector(0)", {"le_bucket"}),
        ("x unless on () homelab:y:z offset 5m", {"x", "homelab:y:z"}),
        ("time() - max(t) < 30 * 86400", {"t"}),
    ],
)
def test_the_names_in_an_expression_are_found(expression: str, expected: set[str]) -> None:
    assert metrics(expression) == expected
