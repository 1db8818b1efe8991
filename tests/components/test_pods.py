"""What every pod of a chart asks for, runs as, and is probed by, with the values that the program sets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from components.longhorn import least
from tests.components.pods import Fault, faults, told
from tests.twin.test_charts_render import HELM, objects
from tests.twin.test_charts_values import PROGRAM

pytestmark = pytest.mark.skipif(not HELM.exists(), reason="make tools builds helm")
CHARTS = sorted({(chart, lab) for lab, charts in PROGRAM.items() for chart in charts})


def found(chart: str, lab: str) -> set[Fault]:
    default = least()["spec"]["limits"][0]["defaultRequest"] if chart == "longhorn" else None
    made = [item for item in objects(chart, json.dumps(PROGRAM[lab][chart])) if "template" in item.get("spec", {})]
    return {fault for item in made for fault in faults(item["metadata"]["name"], item["spec"]["template"], default)}


@pytest.mark.parametrize(("chart", "lab"), CHARTS)
def test_every_pod_asks_is_nobody_and_is_probed_or_the_docs_say_why(chart: str, lab: str) -> None:
    assert found(chart, lab) - told().keys() == set()


def test_the_docs_explain_nothing_that_is_no_more() -> None:
    everything = set().union(*(found(chart, lab) for chart, lab in CHARTS))
    assert told().keys() - everything == set()
    assert all(told().values())


@pytest.mark.parametrize("lack", ["requests", "root", "no probe"])
def test_a_lack_is_seen(lack: str) -> None:
    whole: dict[str, Any] = {
        "name": "web",
        "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}},
        "securityContext": {"runAsNonRoot": True},
        "livenessProbe": {"tcpSocket": {"port": 80}},
    }
    key = {"requests": "resources", "root": "securityContext", "no probe": "livenessProbe"}[lack]
    assert list(faults("web", {"spec": {"containers": [whole]}})) == []
    part = {name: value for name, value in whole.items() if name != key}
    assert list(faults("web", {"spec": {"containers": [part]}})) == [("web", "web", lack)]
