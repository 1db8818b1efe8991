"""The rules that no removal breaks: etcd's quorum, and a volume's last whole replica."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest

from drift.hands import empty, lone_member, refuse_quorum_loss
from providers.engine import Reporter
from providers.errors import RefusedError
from providers.kubernetes.client import Kube
from providers.kubernetes.drain import Drained
from providers.talos.client import EtcdMember
from providers.talos.leave import Etcd
from tests.providers.longhorn.cluster import Longhorn, node, replica, volume


def member(name: str, number: int, *, learner: bool = False) -> EtcdMember:
    return EtcdMember(number, name, (f"https://127.107.2.{number}:2380",), (), learner)


def etcd(*healthy: str, learner: bool = False) -> Etcd:
    """Two members of ours and one that nobody declares."""
    members = (member("node1", 1), member("node2", 2), member("node9", 9, learner=learner))
    return Etcd("127.107.2.1", members, frozenset(healthy))


def test_a_dead_member_may_go() -> None:
    refuse_quorum_loss(etcd("node1", "node2"), "9")


def test_a_member_that_the_quorum_needs_stays() -> None:
    with pytest.raises(RefusedError, match="1 of 2 etcd members would be healthy and 2 are needed"):
        refuse_quorum_loss(etcd("node1", "node9"), "9")


def test_an_etcd_without_a_quorum_is_not_changed() -> None:
    with pytest.raises(RefusedError, match="etcd has no quorum"):
        refuse_quorum_loss(etcd("node1"), "9")


def test_a_learner_has_no_vote_to_lose() -> None:
    refuse_quorum_loss(etcd("node1", learner=True), "9")


def test_a_member_that_has_left_meanwhile_is_no_matter() -> None:
    refuse_quorum_loss(etcd("node1"), "77")
    assert lone_member(etcd("node1"), "77") is None


def test_members_without_a_name_are_not_mistaken_for_each_other() -> None:
    nameless = Etcd("127.107.2.1", (member("node1", 1), member("", 7), member("", 8)), frozenset({"node1"}))
    with pytest.raises(RefusedError, match="2 members of etcd are called nothing"):
        lone_member(nameless, "7")
    alone = Etcd("127.107.2.1", (member("node1", 1), member("", 7)), frozenset({"node1"}))
    assert lone_member(alone, "7") == member("", 7)


class Cluster(Longhorn):
    """A Longhorn whose nodes are the cluster's too."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.drained: list[str] = []

    def node(self, name: str) -> Mapping[str, Any] | None:
        return next((item for item in self.nodes if item["metadata"]["name"] == name), None)

    def drain(self, name: str, *_: object) -> Drained:
        self.drained.append(name)
        return Drained(1)


def run(cluster: Cluster, name: str) -> None:
    empty(cast(Kube, cluster), name, Reporter(urn=""))


def test_replicas_move_before_the_pods_go() -> None:
    cluster = Cluster([node("node1"), node("node9")], [volume("a", 1)], [replica("a", "node9")])
    run(cluster, "node9")
    assert cluster.on("node1") == ["a"]
    assert cluster.drained == ["node9"]


def test_the_last_whole_replica_keeps_its_node() -> None:
    cluster = Cluster([node("node1"), node("node9", ready=False)], [volume("a", 3)], [replica("a", "node9")])
    with pytest.raises(RefusedError, match=r"the last replica of a .* is on it and it does not answer"):
        run(cluster, "node9")
    assert cluster.drained == []
    assert cluster.patches == []


def test_a_node_that_only_longhorn_lists_has_no_pods_to_move() -> None:
    cluster = Cluster([node("node1")], [], [])
    run(cluster, "node9")
    assert cluster.drained == []
