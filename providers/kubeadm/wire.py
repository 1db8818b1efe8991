"""From property bags to what the clients take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.kubeadm.hosts import Place
from providers.kubeadm.membership import Party
from providers.kubeadm.wish import Cluster, Node
from providers.ssh import reach


def cluster(props: Mapping[str, Any]) -> Cluster:
    """The cluster that a resource belongs to."""
    return Cluster.parse(props["cluster"])


def place(props: Mapping[str, Any]) -> Place:
    """The host of a resource, or one of the control planes in it."""
    return Place(Node.parse(props["node"]), reach.target(props))


def planes(props: Mapping[str, Any]) -> dict[str, Place]:
    """The control planes that a resource knows."""
    return {name: place(bag) for name, bag in props["control_planes"].items()}


def party(props: Mapping[str, Any]) -> Party:
    """The host of a membership, with its cluster."""
    return Party(cluster(props), place(props), planes(props), str(props["kubeconfig"]), bool(props["ready"]))
