"""Every value that we set is one that the chart has: the stand-ins' schemas know the upstream keys, and no others."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.components.house import ROOT, Made, build, lab

CHARTS = ROOT / "twin" / "charts"


def unknown(schema: Mapping[str, Any], value: Any, whole: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """The keys of a value that its schema does not have."""
    if "$ref" in schema:
        found: Any = whole
        for name in schema["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        yield from unknown(found, value, whole, path)
    elif isinstance(value, Mapping):
        known, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
        for key, item in value.items():
            if key in known:
                yield from unknown(known[key], item, whole, f"{path}.{key}")
            elif isinstance(rest, Mapping):
                yield from unknown(rest, item, whole, f"{path}.{key}")
            elif rest is False:
                yield f"{path}.{key}"
    elif isinstance(value, list):
        for item in value:
            yield from unknown(schema.get("items", {}), item, whole, f"{path}[]")


@pytest.fixture(scope="module")
def made() -> Made:
    return build(lab())


@pytest.mark.parametrize(
    ("resource", "chart"),
    [
        ("longhorn-release", "longhorn"),
        ("monitoring-chart", "kube-prometheus-stack"),
        ("monitoring-x509-certificate-exporter", "x509-certificate-exporter"),
        ("traefik-chart", "traefik"),
        ("metallb-chart", "metallb"),
        ("cert-manager-chart", "cert-manager"),
        ("headlamp-chart", "headlamp"),
        ("metrics-server-chart", "metrics-server"),
        ("nfs-chart", "csi-driver-nfs"),
    ],
)
def test_no_value_is_one_that_the_chart_does_not_have(made: Made, resource: str, chart: str) -> None:
    schema = json.loads((CHARTS / chart / "values.schema.json").read_text())
    assert list(unknown(schema, made[resource].inputs["values"], schema)) == []


def test_a_misspelt_key_is_found() -> None:
    schema = json.loads((CHARTS / "longhorn" / "values.schema.json").read_text())
    assert list(unknown(schema, {"persistence": {"defaultClas": True}}, schema)) == [".persistence.defaultClas"]
