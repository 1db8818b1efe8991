"""The platform against Helm run by hand: both install the same, and the ratios are of what was measured."""

import json
from ipaddress import ip_network

import pytest

from bench import platform
from bench.lab import BenchLab
from bench.measure import Effort
from bench.platform import ByHand, Release, Seconds
from components.versions import CHARTS
from tools import paths

NO_CHART_OF_THE_TWIN = {"cilium"}  # its nodes bring their network themselves


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return BenchLab(tmp_path_factory.mktemp("bench") / "lab").prepare()


@pytest.fixture(scope="module")
def wanted(lab):
    return platform.with_platform(lab)


@pytest.fixture(scope="module")
def found(wanted):
    return {release.name: release for release in platform.releases(wanted)}


def test_the_platform_is_added_to_a_lab_on_addresses_of_its_own(lab, wanted):
    subnet = ip_network(f"{lab.prefix}.0.0/16")
    assert wanted.platform.any
    assert wanted.platform.addresses
    assert all(address in subnet for address in wanted.platform.addresses.values())
    assert "127.10." not in (lab.folder / lab.settings).read_text()


def test_a_lab_has_no_platform_unless_asked(tmp_path):
    bare = BenchLab(tmp_path / "lab").prepare()
    assert "homelab:platform" not in (bare.folder / bare.settings).read_text()


def test_by_hand_are_installed_the_charts_of_the_program(found):
    assert found.keys() == CHARTS.keys() - NO_CHART_OF_THE_TWIN
    assert found["longhorn"].values["defaultSettings"]["deletingConfirmationFlag"] is True
    assert found["traefik"].namespace == "traefik"


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("metallb", "traefik"),
        ("cert-manager", "traefik"),
        ("traefik", "longhorn"),
        ("longhorn", "kube-prometheus-stack"),
        ("kube-prometheus-stack", "x509-certificate-exporter"),
    ],
)
def test_a_chart_comes_after_those_that_it_needs(found, first, then):
    order = list(found)
    assert order.index(first) < order.index(then)


def test_helm_gets_the_values_in_a_file(lab, monkeypatch):
    lines = []
    monkeypatch.setattr(ByHand, "_run", lambda self, command: lines.append(command))
    hand = ByHand(lab, [Release("one", "ns", "one.tgz", {"a": 1}), Release("two", "ns", "two.tgz", {})])
    assert hand.timed("--wait") >= 0
    values = lab.folder / "helm" / "one.json"
    assert json.loads(values.read_text()) == {"a": 1}
    line = "upgrade --install one one.tgz --namespace ns --create-namespace --values"
    assert lines[0] == [str(paths.helm()), *line.split(), str(values), "--wait"]
    assert [line[3] for line in lines] == ["one", "two"]


def test_a_chart_that_helm_refuses_ends_the_measure(lab, monkeypatch, tmp_path):
    monkeypatch.setattr(lab, "folder", tmp_path)
    monkeypatch.setattr(paths, "helm", lambda: "/bin/false")
    with pytest.raises(RuntimeError, match=r"/bin/false upgrade --install one"):
        ByHand(lab, [Release("one", "ns", "one.tgz", {})]).timed()


def test_both_sides_of_a_ratio_are_of_one_repetition():
    runs = [Seconds(60, 30, 2, (4, 6), (2, 2)), Seconds(90, 30, 3, (8, 8), (2, 4))]
    up, preview = platform.ratios(runs)
    assert (up.values, preview.values) == ((2, 3), (2, 3, 4, 2))
    assert (up.holds, preview.holds) == (None, None)
    assert up.parts == {"ours_s": [60, 90], "helm_s": [30, 30]}
    assert preview.parts["without_platform_s"] == [2, 3]


def test_nothing_is_measured_without_helm(monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(paths, "installed", lambda _: False)
    assert platform.measure(Effort.quick(), said.append) == []
    assert "Helm" in said[0]
