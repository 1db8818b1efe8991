"""Failure modes 4d: what the engine does with all this. Killed runs and lost state are in tests/engine."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from pulumi.dynamic import ResourceProvider

from providers.kubernetes.resources import MemberProvider
from providers.talos.resources import ClusterProvider, MachineProvider, SecretsProvider
from providers.talos.secrets import SecretsBundle
from providers.talos.wire import pack
from providers.turingpi.resources import FlashProvider, PowerProvider
from tests.faults.house import BOARD, House, module

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

NODES = ["node1", "node2", "node3", "node4"]
PROVIDERS: list[type[ResourceProvider]] = [
    FlashProvider, PowerProvider, MachineProvider, MemberProvider, ClusterProvider, SecretsProvider,
]  # fmt: skip


def test_4d_32_no_resource_has_hooks(lab: House) -> None:
    """Hooks would make the engine refuse a destroy that does not run the program."""
    assert not [item["urn"] for item in lab.state() if item.get("resourceHooks")]


def test_4d_33_a_new_password_updates_and_replaces_nothing(lab: House) -> None:
    """Each resource has what its deletion needs in its own inputs, so they take the new one before anything else."""
    mark, new = lab.mark(), "another-word"
    lab.fault("bmc-password", board=BOARD, password=new)
    lab.pulumi("config", "set", "--path", "--secret", f"homelab:boards.{BOARD}.password", new)
    done = lab.up().ok()
    assert re.search(r"~ +8 (to )?update", done.output)  # four disks, four slots
    assert not re.search(r"(create|delete|replace)-?\w* *$", done.output.rsplit("Resources:")[-1], re.MULTILINE)
    assert lab.since(mark, "flash_started", "power_off", "reset", "boot_started") == []
    assert new not in json.dumps(lab.state())
    lab.run("destroy-target", "node4", "--yes").ok()
    assert not lab.machine("node4")["power"]
    lab.up().ok()


def test_4d_33_a_node_leaves_with_the_present_password(lab: House) -> None:
    """No `up` since the password was changed, so that state has only the old one."""
    new = "a-third-word"
    lab.fault("bmc-password", board=BOARD, password=new)
    lab.pulumi("config", "set", "--path", "--secret", f"homelab:boards.{BOARD}.password", new)
    done = lab.run("destroy-target", "node4", "--yes").ok()
    assert "went on with the one in the settings" in done.output
    assert new not in done.output
    assert not lab.machine("node4")["power"]
    lab.up().ok()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_4d_38_nothing_is_ever_replaced(provider: type[ResourceProvider]) -> None:
    """A replaced cluster or kubeconfig would take everything in it along."""
    keys = {*getattr(provider, "inputs", ()), *getattr(provider, "memos", ()), "talosconfig", "kubeconfig"}
    news: dict[str, Any] = {key: f"new {key}" for key in keys} | {"talosconfig_path": "/nowhere"}
    olds = {key: f"old {key}" for key in keys} | {"spec": {}, "bundle": pack(SecretsBundle.generate())}
    if provider is SecretsProvider:
        news["cluster"] = olds["cluster"]
    diff = provider().diff("id", olds, news)
    assert not diff.replaces
    assert not diff.delete_before_replace


@pytest.mark.slow
def test_4d_35_a_node_stays_when_no_api_answers(lab: House) -> None:
    """An API that is merely away must not make the engine forget a node; when it is back, the node leaves."""
    mark = lab.mark()
    for node in NODES[:3]:
        lab.fault("etcd-down", node=module(node))
    began = time.monotonic()
    refused = lab.run("destroy-target", "node4", "--yes")
    assert refused.code != 0
    assert time.monotonic() - began < 200
    assert lab.since(mark, "reset", "power_off", node="node4") == []
    assert {"node4", "node4-member", "node4-machine", "node4-power"} <= lab.names()
    for node in NODES[:3]:
        lab.fault("power-cut", node=module(node), for_s=10)
    time.sleep(3)
    lab.up().ok()


def test_4d_34_4d_35_everything_is_given_back_though_no_api_answers(lab: House) -> None:
    """deleted_with: nobody drains a cluster that ends; one node is dead besides. The last test on this lab."""
    mark = lab.mark()
    for node in NODES[:3]:
        lab.fault("etcd-down", node=module(node))
    lab.fault("node-dead", node=module("node3"))
    began = time.monotonic()
    done = lab.run("destroy", "--yes").ok()
    print(f"given back in {time.monotonic() - began:.0f} s, without an API and with a dead node")
    assert f"node3 ({lab.address('node3')}): not reset" in done.output
    assert not [name for name in lab.names() if name.startswith(("node", "cluster", "secrets"))]
    assert not any(lab.machine(node)["power"] for node in NODES)
    assert {event["node"] for event in lab.since(mark, "reset_done")} == {"m1", "m2", "m4"}
    labels = {tuple(event["labels"]) for event in lab.since(mark, "reset")}
    assert labels == {("STATE", "EPHEMERAL")}
