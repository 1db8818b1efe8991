"""Proof 5: a mixed lab out of one settings file by one `up`, each kind of node out and back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from providers.deadline import Deadline
from providers.kubernetes.client import Kube
from tests.engine.mixed import UP_S, MixedLab

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(3600)]

TALOS = {"node1", "node2", "node3", "node4"}
ANSWER_S = 60.0
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
