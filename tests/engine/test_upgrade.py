"""Talos and Kubernetes over two minors on four nodes: in order, killed, powered off, and with images that never boot.

The tests share one lab and go on from each other's end. Those that break something are of the whole run only.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from cli.api_gap import ApiGap
from providers.kubernetes.client import Kube
from tests.engine.sandbox import Run, Sandbox

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]

FIRST, SECOND, THIRD = "v1.11.6", "v1.12.11", "v1.13.9"
KUBE_FIRST, KUBE_SECOND, KUBE_THIRD = "v1.34.1", "v1.35.4", "v1.36.1"
MODULES = ["m1", "m2", "m3", "m4"]
NODES = ["node1", "node2", "node3", "node4"]
UP_S = 600.0


@pytest.fixture(scope="module")
def old(cold: Sandbox) -> Sandbox:
    """Four nodes on versions of two minors ago."""
    versions(cold, FIRST, KUBE_FIRST)
    cold.up().ok()
    return cold


def versions(lab: Sandbox, talos: str, kubernetes: str) -> None:
    """Write versions into the settings."""
    text = (lab.folder / lab.settings).read_text(encoding="utf-8")
    text = re.sub(r"(talos: \{.*?version: )v[\d.]+\d", rf"\g<1>{talos}", text)
    lab.write(lab.settings, re.sub(r"(kubernetes: \{.*?version: )v[\d.]+\d", rf"\g<1>{kubernetes}", text))


def up(lab: Sandbox) -> Run:
    return lab.run("up", "--yes", limit_s=UP_S)


def kubeconfig(lab: Sandbox) -> str:
    return (lab.folder / ".homelab" / "kubeconfig").read_text(encoding="utf-8")


def running(lab: Sandbox) -> dict[str, str]:
    """What each module boots, by the twin."""
    modules: Mapping[str, Any] = {}
    for line in lab.events("boot_started"):
        modules = {**modules, line["node"]: line["boot_id"]}
    proved = {event["node"]: event["version"] for event in lab.events("upgrade_proved")}
    return {name: proved.get(name, FIRST) for name in modules}


def asked(lab: Sandbox, since: int) -> list[str]:
    """Who was asked to upgrade, in order."""
    return [event["node"] for event in lab.events()[since:] if event["kind"] == "upgrade_asked"]


def upgraded(lab: Sandbox, since: int) -> list[tuple[str, str]]:
    """Who was asked to upgrade and who proved it, in order."""
    steps = ("upgrade_asked", "upgrade_proved")
    return [(event["kind"], event["node"]) for event in lab.events()[since:] if event["kind"] in steps]


def all_ready(lab: Sandbox) -> bool:
    return all(node["ready"] is True for node in lab.status()["nodes"])


def test_two_nodes_in_order_and_no_jump(cold_two: Sandbox) -> None:
    """What the tests after it do with four, in short."""
    versions(cold_two, FIRST, KUBE_FIRST)
    cold_two.up().ok()
    since = len(cold_two.events())
    versions(cold_two, THIRD, KUBE_FIRST)
    assert f"Talos goes minor by minor: from {FIRST} to the last v1.12 first" in cold_two.run("preview").output
    assert cold_two.events()[since:] == []
    versions(cold_two, SECOND, KUBE_FIRST)
    up(cold_two).ok()
    assert upgraded(cold_two, since) == [
        (kind, module) for module in ("m1", "m4") for kind in ("upgrade_asked", "upgrade_proved")
    ]
    assert all_ready(cold_two)
    cold_two.preview_unchanged().ok()


@pytest.mark.slow
def test_a_jump_over_a_minor_is_refused_before_anything_is_touched(old: Sandbox) -> None:
    since = len(old.events())
    versions(old, THIRD, KUBE_FIRST)
    refused = old.run("preview")
    assert refused.code != 0
    assert f"Talos goes minor by minor: from {FIRST} to the last v1.12 first" in refused.output
    versions(old, FIRST, KUBE_THIRD)
    assert "too new for Talos" in old.run("preview").output
    assert old.events()[since:] == []


@pytest.mark.slow
def test_the_preview_says_who_drains_and_reboots_and_in_which_order(old: Sandbox) -> None:
    versions(old, SECOND, KUBE_FIRST)
    said = old.run("preview").ok().output
    for rank, node in enumerate(NODES, 1):
        kind = "worker" if node == "node4" else "control plane"
        assert f"{rank}. {node} ({kind}) drains and reboots: Talos {FIRST} -> {SECOND}" in said, said[-3000:]


@pytest.mark.slow
def test_one_control_plane_at_a_time_and_each_proved_before_the_next(old: Sandbox) -> None:
    since = len(old.events())
    with ApiGap(kubeconfig(old)) as gap:
        up(old).ok()
    print(f"longest API gap over the upgrade of four nodes: {gap.longest_s:.2f} s")
    assert upgraded(old, since) == [
        (kind, module) for module in MODULES for kind in ("upgrade_asked", "upgrade_proved")
    ]
    assert all_ready(old)
    old.preview_unchanged().ok()


@pytest.mark.slow
def test_kubernetes_goes_up_without_a_reboot(old: Sandbox) -> None:
    boots = len(old.events("boot_started"))
    versions(old, SECOND, KUBE_SECOND)
    assert f"node1: Kubernetes {KUBE_FIRST} -> {KUBE_SECOND}, without a reboot" in old.run("preview").ok().output
    with ApiGap(kubeconfig(old)) as gap:
        up(old).ok()
    print(f"longest API gap over the upgrade of Kubernetes: {gap.longest_s:.2f} s")
    assert len(old.events("boot_started")) == boots
    with Kube(kubeconfig(old)) as kube:
        assert {view.kubelet for view in kube.nodes()} == {KUBE_SECOND}
        path = "/api/v1/namespaces/kube-system/pods?labelSelector=tier%3Dcontrol-plane"
        images = {pod["spec"]["containers"][0]["image"] for pod in (kube.look(path) or {})["items"]}
        proxy = kube.look("/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy") or {}
    assert {image.rpartition(":")[2] for image in images} == {KUBE_SECOND}
    assert proxy["spec"]["template"]["spec"]["containers"][0]["image"].endswith(KUBE_SECOND)
    old.preview_unchanged().ok()


@pytest.mark.slow
def test_a_run_that_is_killed_in_the_middle_is_taken_up(old: Sandbox) -> None:
    since = len(old.events())
    versions(old, THIRD, KUBE_THIRD)
    process = old.start("up", "--yes")
    end = time.monotonic() + UP_S
    while asked(old, since)[-1:] != ["m2"]:
        assert process.poll() is None, old.said()[-4000:]
        assert time.monotonic() < end
        time.sleep(0.05)
    old.kill(process)
    up(old).ok()
    assert asked(old, since) == MODULES  # nobody twice
    assert set(running(old).values()) == {THIRD}
    with Kube(kubeconfig(old)) as kube:
        assert {view.kubelet for view in kube.nodes()} == {KUBE_THIRD}
    assert all_ready(old)
    old.preview_unchanged().ok()


@pytest.mark.slow
def test_an_image_that_never_boots_stops_the_roll_out_and_leaves_the_rest_untouched(old: Sandbox) -> None:
    since = len(old.events())
    old.twin("fault", "upgrade-never-boots", "--node", "m2", "--times", "99")
    versions(old, "v1.13.8", KUBE_THIRD)
    failed = up(old)
    assert failed.code != 0
    assert "node2 " in failed.output
    assert f"its other slot still holds {THIRD}" in failed.output, failed.output[-5000:]
    for node in ("node3", "node4"):
        assert f"{node}: not begun: node2's upgrade failed" in failed.output
    assert asked(old, since) == ["m1", "m2"]
    # Its power was cut once, and no other's.
    assert [e["node"] for e in old.events()[since:] if e["kind"] == "power_off"] == ["m2"]


@pytest.mark.slow
def test_the_same_up_goes_on_where_it_stopped(old: Sandbox) -> None:
    since = len(old.events())
    old.twin("fault", "upgrade-never-boots", "--clear")
    old.twin("fault", "power-cut", "--node", "m2")
    up(old).ok()
    assert asked(old, since) == ["m3", "m4"]  # node2 boots its new slot now, and node1 was done
    assert set(running(old).values()) == {"v1.13.8"}
    assert all_ready(old)


@pytest.mark.slow
def test_a_version_that_is_never_ready_is_rolled_back(old: Sandbox) -> None:
    since = len(old.events())
    old.twin("fault", "upgrade-never-ready", "--node", "m1")
    versions(old, THIRD, KUBE_THIRD)
    failed = up(old)
    assert failed.code != 0
    assert "rolled back to Talos v1.13.8, because on v1.13.9 it was not ready" in failed.output, failed.output[-5000:]
    assert asked(old, since) == ["m1"]
    assert [e["by"] for e in old.events()[since:] if e["kind"] == "rolled_back"] == ["request"]
    old.twin("fault", "upgrade-never-ready", "--clear")
    assert all_ready(old)


@pytest.mark.slow
def test_a_power_cut_in_the_middle_of_an_upgrade_is_repaired_by_the_same_up(old: Sandbox) -> None:
    old.twin("fault", "power-cut", "--node", "m1", "--at", "upgrade_asked")
    failed = up(old)
    assert failed.code != 0
    assert "node1 " in failed.output
    assert "came back on Talos v1.13.8 as it was" in failed.output, failed.output[-5000:]
    up(old).ok()
    assert set(running(old).values()) == {THIRD}
    assert all_ready(old)
    old.preview_unchanged().ok()


@pytest.fixture(scope="module")
def sixteen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Four boards, three control planes and thirteen workers, on the version of a minor ago."""
    lab = Sandbox(tmp_path_factory.mktemp("sixteen"), stack="sixteen", lab="sixteen").prepare()
    versions(lab, SECOND, KUBE_SECOND)
    lab.run("up", "--yes", limit_s=UP_S).ok()
    yield lab
    lab.end()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_sixteen_nodes_go_three_workers_at_a_time(sixteen: Sandbox) -> None:
    since = len(sixteen.events())
    versions(sixteen, THIRD, KUBE_THIRD)
    sixteen.edit(sixteen.settings, "    talos: {", "    talos: {max_unavailable: 3, ")
    with ApiGap(kubeconfig(sixteen)) as gap:
        sixteen.run("up", "--yes", limit_s=2400).ok()
    print(f"longest API gap over the upgrade of sixteen nodes: {gap.longest_s:.2f} s")
    events = [e for e in sixteen.events()[since:] if e["kind"] in ("upgrade_asked", "upgrade_proved")]
    most, away = 0, set[str]()
    for event in events:
        (away.add if event["kind"] == "upgrade_asked" else away.discard)(event["node"])
        most = max(most, len(away))
    assert [e["kind"] for e in events[:6]] == ["upgrade_asked", "upgrade_proved"] * 3  # the control planes
    assert 1 < most <= 3
    assert len(asked(sixteen, since)) == 16
    assert all_ready(sixteen)
    sixteen.preview_unchanged().ok()
