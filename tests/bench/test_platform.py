"""The platform against Helm run by hand: both install the same, and the ratios are of what was measured."""

import json
import time
from ipaddress import ip_network

import pytest

from bench import platform
from bench.lab import BenchLab
from bench.measure import Effort
from bench.platform import ByHand, Release, Seconds
from components.versions import CHARTS
from providers.kubernetes.client import Kube
from tools import paths

NO_CHART_OF_THE_TWIN = {"cilium", "kamaji"}  # its nodes bring their network themselves, and it has no tenants


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


def test_metallb_alone_needs_more_than_its_chart(found):
    assert {item["kind"] for item in found["metallb"].objects} == {"IPAddressPool", "L2Advertisement"}
    assert [name for name, release in found.items() if release.objects] == ["metallb"]


def test_the_objects_go_to_their_paths_as_the_program_has_them(lab, found, monkeypatch):
    applied = {}
    home = lab.folder / ".homelab"
    home.mkdir()
    (home / "kubeconfig").write_text("")
    monkeypatch.setattr(Kube, "__init__", lambda self, kubeconfig: None)
    monkeypatch.setattr(Kube, "close", lambda self: None)
    monkeypatch.setattr(Kube, "apply", lambda self, path, body, manager: applied.update({path: json.dumps(body)}))
    ByHand(lab, [])._apply(found["metallb"].objects)
    where = "/apis/metallb.io/v1beta1/namespaces/metallb-system"
    assert set(applied) == {
        f"{where}/ipaddresspools/lan",
        f"{where}/ipaddresspools/reserved",
        f"{where}/l2advertisements/lan",
    }
    assert f"{lab.prefix}.0.234/32" in applied[f"{where}/ipaddresspools/reserved"]


def test_by_hand_is_a_line_for_each_chart_and_then_its_objects(lab, monkeypatch):
    done = []
    monkeypatch.setattr(ByHand, "_run", lambda self, release, *more: done.append(release.command("v", *more)))
    monkeypatch.setattr(ByHand, "_apply", lambda self, objects: done.append(list(objects)))
    hand = ByHand(lab, [Release("one", "ns", "one.tgz", {"a": 1}, ({"kind": "Pool"},)), Release("two", "ns", "2", {})])
    assert hand.install() >= 0
    values = lab.folder / "helm" / "one.json"
    assert json.loads(values.read_text()) == {"a": 1}
    line = f"{paths.helm()} upgrade --install one one.tgz --namespace ns --create-namespace --values v"
    assert done[0] == [*line.split(), "--wait", "--timeout", "10m"]
    assert done[1] == [{"kind": "Pool"}]
    assert done[2][3] == "two"
    done.clear()
    assert hand.preview() >= 0
    assert done[0] == [*line.split(), "--dry-run=server"]
    assert len(done) == 2


def test_a_chart_that_helm_refuses_ends_the_measure(lab, monkeypatch, tmp_path):
    monkeypatch.setattr(lab, "folder", tmp_path)
    monkeypatch.setattr(paths, "helm", lambda: "/bin/false")
    with pytest.raises(RuntimeError, match=r"/bin/false upgrade --install one"):
        ByHand(lab, [Release("one", "ns", "one.tgz", {})]).install()


def test_the_platforms_part_begins_when_the_last_node_is_ready(lab, monkeypatch):
    now = time.monotonic()
    flashes = [{"kind": "flash_done", "node": node, "mono": now - 90} for node in ("m1", "m2")]
    ready = [{"kind": "node_ready", "node": node, "mono": now - ago} for node, ago in (("m1", 50), ("m2", 40))]
    monkeypatch.setattr(lab, "timed", lambda *arguments: 60.0)
    monkeypatch.setattr(lab, "events", lambda: [*flashes, *ready])
    up, previews = platform._ours(lab, 2)
    assert up == pytest.approx(40, abs=5)
    assert previews == (60, 60)


def test_both_sides_of_a_ratio_are_of_one_repetition():
    runs = [Seconds(60, 30, 2, (4, 6), (2, 2)), Seconds(90, 30, 3, (8, 8), (2, 4))]
    up, preview = platform.ratios(runs)
    assert (up.values, preview.values) == ((2, 3), (2, 3, 4, 2))
    assert (up.holds, preview.holds) == (None, None)
    assert up.parts == {"ours_s": [60, 90], "helm_s": [30, 30]}
    assert preview.parts["bare_s"] == [2, 3]


def test_nothing_is_measured_without_helm(monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(paths, "installed", lambda _: False)
    assert platform.measure(Effort.quick(), said.append) == []
    assert "Helm" in said[0]
