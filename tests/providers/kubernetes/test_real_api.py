"""The client against a real kube-apiserver: what it refuses, how budgets answer, what a deletion leaves."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from providers.deadline import Deadline
from providers.errors import AuthError, DeadlineError
from providers.kubernetes.client import Kube
from tests.providers.kubernetes.servers import HOST, Cluster
from tests.providers.kubernetes.wire import Authority, kubeconfig

PODS = "/api/v1/namespaces/default/pods"
NUMBERS = itertools.count(1)
BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"


@pytest.fixture
def kube(api: Cluster) -> Iterator[Kube]:
    with Kube(api.kubeconfig) as client:
        yield client


@pytest.fixture
def node(api: Cluster) -> str:
    name = f"node{next(NUMBERS)}"
    api.make("/api/v1/nodes", {"metadata": {"name": name}})
    ready(api, name, status="True")
    return name


def ready(api: Cluster, node: str, status: str) -> None:
    condition = {"type": "Ready", "status": status, "reason": "Test", "message": "as the test says"}
    body = {
        "status": {"conditions": [condition], "addresses": [{"type": "InternalIP", "address": "10.0.0.3"}]},
    }
    api.patch(f"/api/v1/nodes/{node}/status", body)


def pod(api: Cluster, node: str, name: str, owner: str = "ReplicaSet", phase: str = "Running", **labels: str) -> None:
    owners = [{"apiVersion": "apps/v1", "kind": owner, "name": "o", "uid": "u", "controller": True}]
    spec = {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}
    meta = {"name": name, "labels": labels, "ownerReferences": owners}
    api.make(PODS, {"metadata": meta, "spec": spec})
    conditions = [{"type": "Ready", "status": "True"}]
    api.patch(f"{PODS}/{name}/status", {"status": {"phase": phase, "conditions": conditions}})


def allow(api: Cluster, name: str, disruptions: int) -> None:
    """What the disruption controller works out."""
    generation = api.get(f"{BUDGETS}/{name}")["metadata"]["generation"]
    counts = {"currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}
    body = {"observedGeneration": generation, "disruptionsAllowed": disruptions, **counts}
    api.patch(f"{BUDGETS}/{name}/status", {"status": body})


@contextmanager
def kubelet(api: Cluster, node: str) -> Iterator[None]:
    """Ends the pods that were told to go."""
    done = threading.Event()

    def work() -> None:
        while not done.wait(0.05):
            for found in on(api, node):
                if "deletionTimestamp" in found["metadata"]:
                    api.end(f"{PODS}/{found['metadata']['name']}")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def on(api: Cluster, node: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get(f"{PODS}?fieldSelector=spec.nodeName={node}")["items"]
    return found


def names(api: Cluster, node: str) -> set[str]:
    return {found["metadata"]["name"] for found in on(api, node)}


def test_what_can_be_seen(api: Cluster, kube: Kube, node: str) -> None:
    assert kube.healthy()
    assert kube.version().startswith("v1.")
    view = kube.node(node)
    assert view is not None
    assert (view.ready, view.addresses, view.unschedulable) == (True, ("10.0.0.3",), False)
    assert node in {seen.name for seen in kube.nodes()}
    assert kube.node("nobody") is None


def test_waiting_for_ready(api: Cluster, kube: Kube, node: str) -> None:
    ready(api, node, "False")
    said: list[str] = []

    def progress(word: str) -> None:
        said.append(word)
        ready(api, node, "True")

    assert kube.wait_ready(node, Deadline(10), progress).ready
    assert said == [f"{node}: joined, not Ready (as the test says)"]
    with pytest.raises(DeadlineError, match="has not joined yet"):
        kube.wait_ready("nobody", Deadline(0.1))


def test_cordon_and_back_and_again(api: Cluster, kube: Kube, node: str) -> None:
    for wish in (True, True, False, False):
        assert kube.cordon(node, Deadline(5), unschedulable=wish)
        assert api.get(f"/api/v1/nodes/{node}")["spec"].get("unschedulable", False) is wish
    assert not kube.cordon("nobody", Deadline(5))


def test_deleting_a_node_twice(api: Cluster, kube: Kube, node: str) -> None:
    """4c.24"""
    assert kube.delete_node(node, Deadline(5))
    assert not kube.delete_node(node, Deadline(5))


def test_a_drain_moves_what_can_move(api: Cluster, kube: Kube, node: str) -> None:
    pod(api, node, "web")
    pod(api, node, "agent", owner="DaemonSet")
    pod(api, node, "done", phase="Succeeded")
    with kubelet(api, node):
        drained = kube.drain(node, Deadline(20))
    assert (drained.evicted, drained.left) == (1, ())
    assert names(api, node) == {"agent", "done"}
    view = kube.node(node)
    assert view is not None
    assert view.unschedulable


@pytest.mark.parametrize("gives_way", [True, False])
def test_a_budget_is_kept_to(api: Cluster, kube: Kube, node: str, gives_way: bool) -> None:
    """4c.25"""
    label = f"db-{gives_way}".lower()
    pod(api, node, label, app=label)
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": label}}}
    api.make(BUDGETS, {"metadata": {"name": label}, "spec": spec})
    allow(api, label, 0)
    loosen: Callable[[str], None] = lambda _: allow(api, label, 1) if gives_way else None  # noqa: E731
    with kubelet(api, node):
        drained = kube.drain(node, Deadline(20 if gives_way else 1), loosen)
    assert drained.complete is gives_way
    assert names(api, node) == (set() if gives_way else {label})
    if not gives_way:
        assert "disruption budget" in str(drained.left[0])


def test_a_dead_nodes_pods_are_told_to_go_and_not_waited_for(api: Cluster, kube: Kube, node: str) -> None:
    """4c.22"""
    pod(api, node, "lost")
    ready(api, node, "Unknown")
    deadline = Deadline(60)
    drained = kube.drain(node, deadline)
    assert [stuck.name for stuck in drained.left] == ["lost"]
    assert deadline.remaining > 50
    assert "deletionTimestamp" in on(api, node)[0]["metadata"]


def test_another_clusters_client_certificate(api: Cluster) -> None:
    """4b.16"""
    stranger = kubeconfig(Authority(), f"https://{HOST}:6443")
    mixed = stranger.replace(_ca(stranger), _ca(api.kubeconfig))
    with Kube(mixed) as kube, pytest.raises(AuthError, match="expired or belongs to another cluster"):
        kube.nodes()


def _ca(config: str) -> str:
    return str(json.loads(config)["clusters"][0]["cluster"]["certificate-authority-data"])
