"""Proofs 1, 2 and 6: from nothing to four Ready nodes, one out and back, and everything given back."""

from __future__ import annotations

import re
import stat
import time
from itertools import chain
from typing import Any

import pytest

from cli.api_gap import ApiGap
from providers.kubernetes.client import Kube
from tests.engine.sandbox import Sandbox

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

NODES = ["node1", "node2", "node3", "node4"]
CHILDREN = ("flash", "power", "machine", "member")


def kubeconfig(lab: Sandbox) -> str:
    return (lab.folder / ".homelab" / "kubeconfig").read_text(encoding="utf-8")


def identities(lab: Sandbox) -> dict[str, tuple[str, str]]:
    """Each Node's uid and boot id."""
    with Kube(kubeconfig(lab)) as kube:
        return {node.name: (node.uid, node.boot_id) for node in kube.nodes()}


def modules(lab: Sandbox) -> dict[str, str]:
    """Which of the lab's modules plays which node: they share slots in order."""
    return dict(zip(NODES, sorted(lab.count("flash_done")), strict=True))


def bootstrapped(lab: Sandbox) -> str:
    """The node that etcd was bootstrapped on."""
    module = lab.events("bootstrapped")[0]["node"]
    return next(node for node, played in modules(lab).items() if played == module)


def ready(lab: Sandbox) -> dict[str, bool]:
    status: dict[str, Any] = lab.status()
    return {node["name"]: node["ready"] is True for node in status["nodes"]}


def test_from_nothing_to_four_ready_nodes(cold: Sandbox) -> None:
    began = time.monotonic()
    cold.up().ok()
    print(f"cold up: {time.monotonic() - began:.1f} s")
    assert ready(cold) == dict.fromkeys(NODES, True)
    assert set(cold.count("flash_done").values()) == {1}


def test_the_files_it_leaves_are_private(lab: Sandbox) -> None:
    for name in ("kubeconfig", "talosconfig"):
        assert stat.S_IMODE((lab.folder / ".homelab" / name).stat().st_mode) == 0o600


def test_status_has_the_promised_shape(lab: Sandbox) -> None:
    status = lab.status()
    assert set(status) == {"cluster", "nodes", "vip"}
    assert {tuple(node) for node in status["nodes"]} == {("name", "role", "address", "power", "talos", "ready")}
    assert status["vip"]["address"] == f"{lab.prefix}.10"
    assert status["vip"]["holder"] in NODES[:3]


def test_a_second_up_changes_nothing(lab: Sandbox) -> None:
    before = len(lab.events())
    lab.preview_unchanged().ok()
    done = lab.up().ok()
    assert re.search(r"\d+ unchanged", done.output)
    assert not re.search(r"[~+-] +\d+ (to )?(create|update|delete)", done.output)
    touched = {event["kind"] for event in lab.events()[before:]}
    assert not touched & {"flash_started", "power_on", "power_off", "config_applied", "reset", "boot_started"}


def test_nothing_cluster_wide_depends_on_a_node(lab: Sandbox) -> None:
    """4d.30: the recorded graph, as the engine keeps it."""
    of_nodes = {item["urn"] for item in lab.state() if re.search(r"::node\d+(-|$)", item["urn"])}
    assert len(of_nodes) == len(NODES) * (1 + len(CHILDREN))
    for item in lab.state():
        if item["urn"] in of_nodes:
            continue
        recorded = {*item.get("dependencies", []), *chain(*item.get("propertyDependencies", {}).values())}
        assert not recorded & of_nodes, item["urn"]


@pytest.mark.parametrize(
    "which", ["worker", pytest.param("control plane", marks=pytest.mark.slow), "bootstrapped first"]
)
def test_one_out_and_back(lab: Sandbox, which: str) -> None:
    first = bootstrapped(lab)
    other = next(name for name in NODES[:3] if name != first)
    node = {"worker": "node4", "control plane": other, "bootstrapped first": first}[which]
    before, flashed, names = identities(lab), lab.count("flash_done"), lab.names()
    others = {name: ids for name, ids in before.items() if name != node}

    with ApiGap(kubeconfig(lab)) as out:
        lab.run("destroy-target", node, "--yes").ok()
    assert lab.names() == names - {node, *(f"{node}-{child}" for child in CHILDREN)}
    assert identities(lab) == others
    power = {row["name"]: row["power"] for row in lab.status()["nodes"]}
    assert power[node] == "off"

    with ApiGap(kubeconfig(lab)) as back:
        lab.up().ok()
    print(f"{which} ({node}): longest API gap {out.longest_s:.2f} s going out, {back.longest_s:.2f} s coming back")
    assert lab.names() == names
    after = identities(lab)
    assert {name: ids for name, ids in after.items() if name != node} == others
    assert after[node][0] != before[node][0]
    assert lab.count("flash_done") == flashed
    assert min(out.answers, back.answers) > 10
    lab.preview_unchanged().ok()


def test_destroy_gives_everything_back(lab: Sandbox) -> None:
    lab.run("destroy", "--yes").ok()
    assert {row["power"] for row in lab.status()["nodes"]} == {"off"}
    assert not any(name.startswith("node") for name in lab.names())
    assert not (lab.folder / ".homelab" / "kubeconfig").exists()
