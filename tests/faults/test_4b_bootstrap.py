"""Failure modes 4b: bootstrapping and the VIP."""

from __future__ import annotations

import time

import pytest

from providers.deadline import Deadline
from providers.engine import Reporter
from providers.errors import DeadlineError, ForeignNodeError, HomelabError
from providers.talos import bootstrap
from providers.talos.client import Mode, Talos, probe
from providers.talos.secrets import SecretsBundle
from providers.turingpi.install import Evidence, Module, decide
from tests.faults.conftest import CameUp, Mistaken
from tests.faults.house import House

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

CONTROL_PLANES = ["node1", "node2", "node3"]


def bundle_of(lab: House) -> SecretsBundle:
    """The cluster's secrets, read back from a control plane."""
    with lab.talos("node1") as talos:
        return SecretsBundle.from_machine_config(talos.machine_config(timeout_s=10))


def plan(lab: House, *nodes: str) -> bootstrap.Plan:
    addresses = {node: lab.address(node) for node in nodes}
    return bootstrap.Plan("home", addresses, f"{lab.prefix}.10", 6443)


def test_4b_11_talos_is_never_asked_at_the_vip(lab: House) -> None:
    """The VIP is in the kubeconfig only."""
    talosconfig = (lab.folder / ".homelab" / "talosconfig").read_text(encoding="utf-8")
    assert f"{lab.prefix}.10\n" not in talosconfig
    assert all(lab.address(node) in talosconfig for node in CONTROL_PLANES)
    kubeconfig = (lab.folder / ".homelab" / "kubeconfig").read_text(encoding="utf-8")
    assert f"https://{lab.prefix}.10:6443" in kubeconfig


def test_4b_12_a_vip_that_nobody_claims_is_named(mistaken: Mistaken) -> None:
    """The settings name another MAC than the module has; with the right one the same lab goes on."""
    assert mistaken.no_vip.code != 0
    assert f"no control plane holds the VIP {mistaken.lab.prefix}.10" in mistaken.no_vip.output
    assert "does nodes.*.mac name the network interface" in mistaken.no_vip.output
    mistaken.mended.ok()
    assert len(mistaken.lab.events("bootstrapped")) == 1
    assert mistaken.lab.count("flash_done") == {"m1": 1, "m2": 1}


def test_4b_13_etcd_and_kubelets_never_take_the_vip(lab: House) -> None:
    for member in lab.members("node1").values():
        assert member.peer_urls == (f"https://{lab.address(member.hostname)}:2380",)
    with lab.kube() as kube:
        assert {node.name: node.addresses for node in kube.nodes()} == {
            f"node{number}": (lab.address(f"node{number}"),) for number in (1, 2, 3, 4)
        }


def test_4b_14_an_answer_that_was_lost_does_not_matter(came_up: CameUp) -> None:
    """Bootstrap was refused twice, then done without an answer; the next try hears AlreadyExists."""
    lab = came_up.lab
    came_up.run.ok()
    assert lab.played("bootstrap-not-yet") == 2
    assert lab.played("bootstrap-lost") == 1
    assert len(lab.events("bootstrapped")) == 1


def test_4b_14_bootstrapping_a_cluster_that_runs_changes_nothing(lab: House) -> None:
    """What a run does again that was killed after its bootstrap."""
    mark, before = lab.mark(), lab.members("node1")
    bootstrap.ensure(plan(lab, *CONTROL_PLANES), bundle_of(lab), Reporter(""))
    assert lab.members("node1") == before
    assert lab.since(mark, "bootstrapped", "config_applied", "reset") == []


def test_4b_15_all_control_planes_are_one_etcd(lab: House) -> None:
    assert len(lab.events("bootstrapped")) == 1
    views = [{name: member.id for name, member in lab.members(node).items()} for node in CONTROL_PLANES]
    assert views[0] == views[1] == views[2]
    assert sorted(views[0]) == CONTROL_PLANES


def test_4b_15_nothing_is_bootstrapped_while_one_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The silent one may be the one that has the data."""
    asked: list[str] = []
    known = {"127.109.0.1": bootstrap.WAITS_FOR_BOOTSTRAP}
    state = bootstrap._etcd_state
    monkeypatch.setattr(bootstrap, "BOOTSTRAP_S", 1.0)
    monkeypatch.setattr(bootstrap, "_etcd_state", lambda ip, cert: known.get(ip) or state(ip, cert))
    monkeypatch.setattr(bootstrap, "_asked", lambda node, *_: asked.append(node))
    nodes = {"node1": "127.109.0.1", "node2": "127.109.0.2"}
    with pytest.raises(DeadlineError, match=r"node2 \(127\.109\.0\.2\): ") as caught:
        bootstrap.ensure(bootstrap.Plan("home", nodes, "127.109.0.9", 6443), SecretsBundle.generate(), Reporter(""))
    assert "node1 (" not in str(caught.value)
    assert asked == []


def test_4b_16_a_foreign_node_is_named_and_left_alone(lab: House) -> None:
    """Ours, looked at with another cluster's certificate."""
    mark, stranger = lab.mark(), SecretsBundle.generate().issue_client()
    assert probe(lab.address("node4"), stranger) is Mode.FOREIGN
    node4 = Module("node4", lab.address("node4"), 4, "v1.13.9", "")
    for generation in (0, 1, 2):
        with pytest.raises(ForeignNodeError, match=rf"node4 \({lab.address('node4')}\).*another cluster.*reset"):
            decide(node4, Evidence.FOREIGN, generation=generation, interrupted=True)
    assert lab.since(mark, "config_applied", "reset", "power_off", "flash_started") == []


def test_4b_16_an_applied_config_whose_answer_was_lost_is_seen(came_up: CameUp) -> None:
    """The node is installing or has rebooted into its certificates; applying blindly again would fail."""
    came_up.run.ok()
    assert came_up.lab.played("apply-lost") == 1
    assert len(came_up.lab.since(0, "install_started", node="node2")) == 1


def test_4b_17_calls_that_come_too_early_are_repeated(came_up: CameUp) -> None:
    came_up.run.ok()
    assert came_up.lab.played("api-error") == 2


def test_4b_18_a_half_open_connection_ends_in_time_and_the_next_call_works(lab: House) -> None:
    """The node lost its power: its connections stay open, and nothing comes any more."""
    lab.fault("half-open", node="m4")
    with lab.talos("node4") as talos:
        before = talos.boot_id(timeout_s=5)
        lab.fault("power-cut", node="m4", for_s=100)
        began = time.monotonic()
        with pytest.raises(HomelabError, match=lab.address("node4")):
            talos.version(timeout_s=2)
        assert time.monotonic() - began < 5
        lab.clear("half-open")

        def back() -> bool | None:
            try:
                return talos.boot_id(timeout_s=2) != before or None
            except HomelabError:
                return None

        Deadline(30).poll(back, "node4: another boot", 0.2)
    with lab.kube() as kube:
        kube.wait_ready("node4", Deadline(60))
    with Talos.secure(lab.address("node4"), lab.cert) as talos:
        talos.version(timeout_s=5)
