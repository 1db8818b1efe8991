"""Failure modes 4c: a node that leaves, alive or dead, and comes back."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from providers import pace
from providers.engine import Reporter
from providers.talos import machine
from providers.talos.client import EtcdMember, Mode
from providers.talos.secrets import SecretsBundle
from providers.talos.wire import pack
from tests.engine.sandbox import Run
from tests.faults.conftest import CameUp
from tests.faults.house import House, module

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

CONTROL_PLANES = ["node1", "node2", "node3"]
BOUND_S = 240.0  # of a dead node's leaving on the twin: its drain and its silence are waited for


def bootstrapped(lab: House) -> str:
    """The node that etcd was bootstrapped on."""
    return str(lab.events("bootstrapped")[0]["node"]).replace("m", "node")


def converge(lab: House) -> None:
    lab.up().ok()
    assert set(lab.ready().values()) == {True}


# A dead control plane, the very one that etcd was bootstrapped on.


@dataclass
class Dead:
    """What became of a control plane that died, and of the others."""

    lab: House
    node: str
    other: str
    peer: str
    before: dict[str, EtcdMember]
    refused: Run
    refused_preview: Run
    left: Run
    took_s: float
    without: dict[str, EtcdMember]
    left_events: list[dict[str, Any]]
    power: bool
    back: Run
    back_events: list[dict[str, Any]]
    after: dict[str, EtcdMember]


@pytest.fixture(scope="module")
def dead(came_up: CameUp) -> Dead:
    """It dies, another one is asked to leave, it leaves itself, it is mended and comes back with its old disk."""
    lab = came_up.lab
    lab.clear()
    if not all(lab.ready().values()):
        lab.up().ok()
    node = bootstrapped(lab)
    other, peer = [name for name in CONTROL_PLANES if name != node]
    before = lab.members(peer)
    lab.fault("node-dead", node=module(node))
    refused = lab.run("destroy-target", other, "--yes")
    lab.change_node(other, disabled=True)
    refused_preview = lab.run("preview")
    lab.change_node(other, disabled=None)
    mark, began = lab.mark(), time.monotonic()
    left = lab.run("destroy-target", node, "--yes")
    took_s, without, left_events = time.monotonic() - began, lab.members(peer), lab.events()[mark:]
    power = lab.machine(node)["power"]
    mark = lab.mark()
    lab.fault("node-mended", node=module(node))
    back = lab.up()
    return Dead(
        lab, node, other, peer, before, refused, refused_preview, left, took_s, without, left_events, power, back,
        lab.events()[mark:], lab.members(peer),
    )  # fmt: skip


def test_4c_19_losing_the_quorum_is_refused_before_anything_is_touched(dead: Dead) -> None:
    assert dead.refused.code != 0
    reason = f"without {dead.other}, 1 of 2 etcd members would be healthy and 2 are needed"
    assert reason in dead.refused.output
    assert f"bring back or take out {dead.node} first" in dead.refused.output


def test_4c_19_losing_the_quorum_by_the_settings_is_refused_at_preview(dead: Dead) -> None:
    assert dead.refused_preview.code != 0
    assert f"without {dead.other}, 1 of 2 etcd members would be healthy" in dead.refused_preview.output


def test_4c_21_a_dead_members_own_death_holds_nobody_up(dead: Dead) -> None:
    dead.left.ok()
    assert set(dead.without) == {dead.other, dead.peer}


def test_4c_22_a_dead_node_leaves_in_time(dead: Dead) -> None:
    dead.left.ok()
    print(f"a dead control plane left in {dead.took_s:.0f} s")
    assert dead.took_s < BOUND_S
    assert not dead.power
    assert f"{dead.node} ({dead.lab.address(dead.node)}): not reset" in dead.left.output


def test_4c_22_it_comes_back_reset_and_as_a_new_member(dead: Dead) -> None:
    """Its disk still holds the old cluster state; it must not rejoin with it."""
    dead.back.ok()
    mine = [event["kind"] for event in dead.back_events if event.get("node") == module(dead.node)]
    assert mine.index("reset") < mine.index("config_applied") < mine.index("etcd_started")
    assert dead.after[dead.node].id not in {member.id for member in dead.before.values()}
    assert dead.lab.ready() == {"node1": True, "node2": True, "node3": True, "node4": True}
    assert max(dead.lab.count("flash_done").values()) == 1


def test_4c_23_only_the_dead_ones_member_id_is_removed(dead: Dead) -> None:
    assert {name: member.id for name, member in dead.without.items()} == {
        name: member.id for name, member in dead.before.items() if name != dead.node
    }
    touched = {event.get("node") for event in dead.left_events if event["kind"] in ("reset", "etcd_left", "power_off")}
    assert touched <= {module(dead.node)}


def test_4c_26_any_healthy_peer_does_it_when_the_first_one_is_the_dead_one(dead: Dead) -> None:
    assert dead.node == min(CONTROL_PLANES)
    dead.left.ok()


@pytest.mark.parametrize("role", ["controlplane", "worker"])
def test_4c_22_a_node_that_left_unwiped_is_reset_before_it_joins(
    role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that returns by itself looks like one that never left."""
    monkeypatch.chdir(tmp_path)
    bundle, done, modes = SecretsBundle.generate(), [], [Mode.SILENT]
    props = {"node": "node4", "address": "127.109.0.4", "spec": {"role": role}, "secrets": pack(bundle)}
    monkeypatch.setattr(machine, "probe", lambda *_, **__: modes[0])
    monkeypatch.setattr(pace, "limit", lambda _: 0.0)
    for step, answer in (("rendered", ""), ("_live", ""), ("_left_over", ""), ("_was_removed", False)):
        monkeypatch.setattr(machine, step, lambda *_, answer=answer: answer)
    for step in ("_reset", "_configure", "_change"):
        monkeypatch.setattr(machine, step, lambda *_, step=step: done.append(step))
    machine.give_back(props, Reporter(""))
    modes[0] = Mode.OURS
    machine.settle(props, Reporter(""))
    machine.settle(props, Reporter(""))
    assert done == ["_reset", "_configure", "_change"]


@pytest.mark.slow
def test_4c_22_a_dead_worker_leaves_and_comes_back_reset(lab: House) -> None:
    lab.fault("node-dead", node="m4")
    done = lab.run("destroy-target", "node4", "--yes").ok()
    assert f"node4 ({lab.address('node4')}): not reset" in done.output
    assert "node4" not in lab.uids()
    mark = lab.mark()
    lab.fault("node-mended", node="m4")
    converge(lab)
    kinds = [event["kind"] for event in lab.since(mark, "reset", "config_applied", "node_ready", node="node4")]
    assert kinds[-3:] == ["reset", "config_applied", "node_ready"]


# A living node.


def test_4c_20_nothing_is_wiped_while_it_is_still_a_member(lab: House) -> None:
    """Neither by itself nor by a peer can it leave etcd: everything stays. A peer removes it when one can."""
    lab.fault("api-error", type="EtcdRemoveMemberByID", times=99)
    lab.fault("etcd-leave-fails", node="m2", times=99)
    mark, before = lab.mark(), lab.members("node1")
    refused = lab.run("destroy-target", "node2", "--yes")
    assert refused.code != 0
    assert lab.played("api-error", mark) > 0
    assert lab.played("etcd-leave-fails", mark) > 0
    assert "node2: still a member of etcd, so it was neither wiped nor powered off" in refused.output
    assert lab.since(mark, "reset", "power_off", "etcd_left") == []
    assert lab.members("node1") == before
    assert "node2" in lab.uids()

    lab.clear("api-error")
    mark = lab.mark()
    lab.run("destroy-target", "node2", "--yes").ok()
    assert lab.played("etcd-leave-fails", mark) > 0
    kinds = [event["kind"] for event in lab.since(mark, "etcd_left", "reset", "reset_done", "power_off", node="node2")]
    assert kinds == ["reset", "reset_done", "power_off"]
    left = {name: member.id for name, member in lab.members("node1").items()}
    assert left == {name: member.id for name, member in before.items() if name != "node2"}
    lab.clear()
    converge(lab)


def test_4c_24_4c_29_4d_31_disabled_with_its_node_object_gone(lab: House) -> None:
    """What is gone already is no error, and nothing waits for a node that shall be out."""
    uids = lab.uids()
    with lab.kube() as kube:
        kube._call("DELETE", "/api/v1/nodes/node4")
    lab.change_node("node4", disabled=True)
    lab.up().ok()
    assert lab.uids() == {name: uid for name, uid in uids.items() if name != "node4"}
    assert not lab.machine("node4")["power"]
    assert not any(name.startswith("node4") for name in lab.names())
    lab.preview_unchanged().ok()
    lab.change_node("node4", disabled=None)
    converge(lab)
    assert lab.uids()["node4"] != uids["node4"]


def test_4c_24_the_node_object_goes_after_its_kubelet_and_stays_away(lab: House) -> None:
    lab.run("destroy-target", "node4", "--yes").ok()
    time.sleep(3)
    assert "node4" not in lab.uids()
    converge(lab)


@pytest.mark.slow
def test_4c_25_a_budget_that_never_gives_way_bounds_the_drain_and_is_named(lab: House) -> None:
    labels = {"app": "stubborn"}
    spec: dict[str, Any] = {
        "nodeName": "node4",
        "containers": [{"name": "c", "image": "i"}],
    }
    pod = {"metadata": {"name": "stubborn", "labels": labels}, "spec": spec}
    budget = {"metadata": {"name": "stubborn"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": labels}}}
    with lab.kube() as kube:
        kube._call("POST", "/api/v1/namespaces/default/pods", body={"apiVersion": "v1", "kind": "Pod", **pod})
        kube._call("POST", "/apis/policy/v1/namespaces/default/poddisruptionbudgets", body=budget)
    began = time.monotonic()
    done = lab.run("destroy-target", "node4", "--yes").ok()
    assert time.monotonic() - began < 120
    assert "default/stubborn" in done.output
    assert "disruption budget" in done.output
    converge(lab)


@pytest.mark.slow
def test_4c_28_a_learner_that_is_never_promoted_is_waited_for_and_named(lab: House) -> None:
    lab.run("destroy-target", "node3", "--yes").ok()
    lab.fault("member-stuck", node="m3")
    stuck = lab.up()
    assert stuck.code != 0
    assert f"node3 ({lab.address('node3')}): a vote in etcd" in stuck.output
    assert lab.members("node1")["node3"].learner
    lab.clear()
    converge(lab)
    assert not lab.members("node1")["node3"].learner
