"""A drain against a cluster that is a few lines long, so that every round of it can be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from providers.deadline import Deadline
from providers.errors import UnreachableError
from providers.kubernetes.drain import Drained, drain

Pod = dict[str, Any]


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def deadline(self, seconds: float) -> Deadline:
        return Deadline(seconds, lambda: self.now, self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Cluster:
    """A node with pods; a pod that was evicted is gone a round later, unless its kubelet is dead."""

    listed: list[Pod] = field(default_factory=list)
    known: bool = True
    alive: bool = True
    held: dict[str, int] = field(default_factory=dict)
    away: int = 0
    cordoned: bool = False

    def cordon(self, name: str, deadline: Deadline) -> bool:
        self.cordoned = self.known
        return self.known

    def node(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(ready=self.alive)

    def pods(self, node: str) -> tuple[Pod, ...]:
        if self.away:
            self.away -= 1
            raise UnreachableError("https://10.0.0.1:6443: no answer in time")
        if self.alive:
            self.listed = [pod for pod in self.listed if "deletionTimestamp" not in pod["metadata"]]
        return tuple(self.listed)

    def evict(self, pod: Mapping[str, Any]) -> str | None:
        name = pod["metadata"]["name"]
        if self.held.get(name):
            self.held[name] -= 1
            return "Cannot evict pod as it would violate the pod's disruption budget."
        next(p for p in self.listed if p is pod)["metadata"]["deletionTimestamp"] = "now"
        return None


def pod(name: str, owner: str | None = "ReplicaSet", phase: str = "Running", **metadata: Any) -> Pod:
    owners = [{"kind": owner, "name": "o", "controller": True}] if owner else []
    return {
        "metadata": {"name": name, "namespace": "default", "uid": name, "ownerReferences": owners, **metadata},
        "status": {"phase": phase},
    }


def run(cluster: Cluster, seconds: float = 60) -> tuple[Drained, list[str]]:
    said: list[str] = []
    return drain(cluster, "node3", Clock().deadline(seconds), said.append), said


def test_all_pods_leave_and_the_count_is_told() -> None:
    cluster = Cluster([pod("a"), pod("b"), pod("c")], held={"b": 3})
    drained, said = run(cluster)
    assert drained == Drained(3)
    assert cluster.cordoned
    assert said == ["node3: 3 pods left", "node3: 1 pod left", "node3: no pods left"]


@pytest.mark.parametrize(
    "stays",
    [
        pod("agent", owner="DaemonSet"),
        pod("apiserver", owner="Node", annotations={"kubernetes.io/config.mirror": "x"}),
        pod("job", phase="Succeeded"),
        pod("broken", phase="Failed"),
    ],
    ids=["daemonset", "mirror", "succeeded", "failed"],
)
def test_what_a_drain_leaves_alone(stays: Pod) -> None:
    cluster = Cluster([stays])
    assert run(cluster)[0] == Drained(0)
    assert cluster.listed == [stays]


def test_a_budget_that_never_gives_way_ends_with_the_deadline_and_is_named() -> None:
    """4c.25"""
    drained, _ = run(Cluster([pod("a"), pod("instance-manager")], held={"instance-manager": 10_000}), seconds=5)
    assert drained.evicted == 1
    assert not drained.complete
    assert "disruption budget" in str(drained.left[0])
    assert drained.left[0].name == "instance-manager"


def test_a_dead_kubelet_confirms_nothing_and_is_not_waited_for() -> None:
    """4c.22"""
    clock = Clock()
    drained = drain(Cluster([pod("a"), pod("b")], alive=False), "node3", clock.deadline(600), print)
    assert [stuck.name for stuck in drained.left] == ["a", "b"]
    assert clock.now < 2


def test_a_node_that_is_gone_is_drained() -> None:
    """4c.24"""
    drained, said = run(Cluster(known=False))
    assert drained.complete
    assert said == ["node3: the cluster does not know this node, nothing to drain"]


def test_an_api_that_is_away_for_a_while_is_waited_for() -> None:
    drained, said = run(Cluster([pod("a")], away=4))
    assert drained == Drained(1)
    assert "waiting for the API" in said[0]


def test_an_api_that_stays_away_is_an_error() -> None:
    with pytest.raises(UnreachableError):
        run(Cluster([pod("a")], away=10_000), seconds=5)


def test_a_pod_that_nothing_will_start_again_is_named_once() -> None:
    _, said = run(Cluster([pod("mine", owner=None)], held={"mine": 3}))
    assert [word for word in said if "will not come back" in word] == [
        "node3: mine has no controller and will not come back elsewhere"
    ]
