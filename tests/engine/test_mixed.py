"""Proof 5: a mixed lab out of one settings file by one `up`, each kind of node out and back, one moved elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from providers.deadline import Deadline
from providers.kubernetes.client import Kube
from tests.engine.mixed import BOXES, UP_S, MixedLab

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(3600)]

TALOS = {"node1", "node2", "node3", "node4"}
ANSWER_S = 240.0  # a tenant's servers go to another node with their pods
Identities = dict[str, tuple[str, str]]  # cluster/node -> uid and boot id


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MixedLab]:
    """Everything, after one `up`."""
    lab = MixedLab(tmp_path_factory.mktemp("mixed"))
    try:
        lab.prepare()
        began = time.monotonic()
        lab.up().ok()
        print(f"cold up: {time.monotonic() - began:.1f} s")
        yield lab
    finally:
        lab.end()


def clusters(lab: MixedLab) -> dict[str, str]:
    return {"home": lab.home(), "garage": lab.kubeconfig(), "school": lab.tenant()}


def identities(lab: MixedLab) -> Identities:
    """All Nodes of all clusters that are Ready."""
    found: Identities = {}
    for name, kubeconfig in clusters(lab).items():
        with Kube(kubeconfig) as kube:
            nodes = kube.patiently(kube.nodes, name, Deadline(ANSWER_S))
        found |= {f"{name}/{node.name}": (node.uid, node.boot_id) for node in nodes if node.ready}
    return found


def without(found: Identities, name: str) -> Identities:
    return {key: value for key, value in found.items() if not key.endswith(f"/{name}")}


def nodes(kubeconfig: str) -> set[str]:
    """All Nodes of a cluster, Ready or not."""
    with Kube(kubeconfig) as kube:
        return {node.name for node in kube.patiently(kube.nodes, "Nodes", Deadline(ANSWER_S))}


def bring_network(kubeconfig: str) -> None:
    """What the owner of a tenant does: a DaemonSet that writes where nodes read their networks."""
    labels = {"app": "network"}
    pod = {
        "tolerations": [{"operator": "Exists"}],
        "containers": [{"name": "cni", "image": "cni:1"}],
        "volumes": [{"name": "cni", "hostPath": {"path": "/etc/cni/net.d"}}],
    }
    about = {"name": "network", "namespace": "kube-system"}
    spec = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}
    body = {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": about, "spec": spec}
    with Kube(kubeconfig) as kube:
        path = "/apis/apps/v1/namespaces/kube-system/daemonsets/network"
        kube.patiently(lambda: kube.apply(path, body, "owner"), "the network", Deadline(ANSWER_S))


def eventually(probe: Callable[[], Any], wanted: object, limit_s: float = 60.0) -> None:
    """Nodes are seen late where everything runs on two processors."""
    ends = time.monotonic() + limit_s
    while (seen := probe()) != wanted and time.monotonic() < ends:
        time.sleep(1)
    assert seen == wanted


def test_one_up_makes_all_of_it(lab: MixedLab) -> None:
    found = set(identities(lab))
    assert found == {*(f"home/{name}" for name in (*TALOS, "box1", "box2")), "garage/h1", "garage/h2"}
    for kind in ("boot_failed", "join_failed", "kubelet_failed", "node_refused", "unknown_command"):
        assert not lab.events(kind), kind
    assert lab.happened("boot").count("box1") == 1


def test_a_second_preview_changes_nothing(lab: MixedLab) -> None:
    lab.sandbox.preview_unchanged().ok()


def test_a_pool_goes_to_the_tenant_by_one_line(lab: MixedLab) -> None:
    before, names, boots = identities(lab), lab.sandbox.names(), lab.happened("boot")
    lab.pool_cluster = "school"
    lab.write_settings()
    lab.up().ok()
    assert nodes(lab.tenant()) == set(BOXES)
    bring_network(lab.tenant())
    stayed = {key: found for key, found in before.items() if key.partition("/")[2] not in BOXES}
    eventually(lambda: set(identities(lab)) - set(stayed), {f"school/{box}" for box in BOXES})
    after = identities(lab)
    assert {key: after.get(key) for key in stayed} == stayed
    assert nodes(lab.home()) == TALOS, "nothing of them is left where they were"
    assert sorted(lab.happened("boot")[len(boots) :]) == sorted(BOXES), "each was restarted once, by its BMC"
    joined = lab.events("joining")[-1]
    assert joined["server"] == f"https://{lab.prefix}.247:6443"
    assert joined["dns"] == ["10.112.0.10"], "where the tenant's names are resolved, and not those at home"
    assert lab.sandbox.names() == names
    lab.sandbox.preview_unchanged().ok()


def test_and_comes_home_again(lab: MixedLab) -> None:
    lab.pool_cluster = None
    lab.write_settings()
    lab.up().ok()
    assert nodes(lab.tenant()) == set()
    eventually(lambda: set(identities(lab)) & {f"home/{box}" for box in BOXES}, {f"home/{box}" for box in BOXES})
    lab.sandbox.preview_unchanged().ok()


@pytest.mark.parametrize("node", ["node4", "h2", "box1"])
def test_one_of_each_kind_goes_out_and_comes_back(lab: MixedLab, node: str) -> None:
    before, names = identities(lab), lab.sandbox.names()
    others = without(before, node)
    lab.sandbox.run("destroy-target", node, "--yes", limit_s=UP_S).ok()
    left = names - lab.sandbox.names()
    assert left >= {node}
    assert all(name == node or name.startswith(f"{node}-") for name in left)
    eventually(lambda: identities(lab), others)
    lab.up().ok()
    assert lab.sandbox.names() == names
    after = identities(lab)
    assert without(after, node) == others
    (key,) = set(after) - set(others)
    assert after[key][0] != before[key][0], "it is another Node"
    lab.sandbox.preview_unchanged().ok()
