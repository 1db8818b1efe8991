"""What is the same about leaving in every kind of cluster: bounded, told, and never held up by what does not answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers import pace
from providers.deadline import Deadline
from providers.engine import Reporter
from providers.errors import DeadlineError, HomelabError, UnreachableError
from providers.kubernetes.client import Kube, NodeView
from providers.talos.quorum import verdict

DRAIN_S = 300.0
CONTROL_PLANE_ROLE = "node-role.kubernetes.io/control-plane"
ETCD_ROLE = "node-role.kubernetes.io/etcd"  # k3s says so; with kubeadm every control plane has a member
REMOVED = "etcd.k3s.cattle.io/removed-node-name"  # k3s' word that a server is out of etcd


def is_unknown(kubeconfig: str, node: str, report: Reporter) -> bool:
    """Whether the cluster answers and does not know the node; an API that is away is told, and means no."""
    try:
        with Kube(kubeconfig) as kube:
            return kube.node(node) is None
    except HomelabError as error:
        report.warn(f"{node}: membership not read: {error}")
        return False


def drain(kube: Kube, node: str, report: Reporter) -> None:
    """Bounded: a pod that will not go must not keep the node for ever."""
    try:
        drained = kube.drain(node, Deadline(pace.limit(DRAIN_S)), report.progress)
    except (UnreachableError, DeadlineError) as error:
        report.warn(f"{node}: not drained: {error}")
        return
    if not drained.complete:
        left = ", ".join(str(pod) for pod in drained.left)
        report.warn(f"{node}: left after {pace.limit(DRAIN_S):.0f} s with pods still on it: {left}")


def control_planes(kube: Kube) -> dict[str, Mapping[str, Any]]:
    """The Nodes that run the API, by name."""
    items = (kube.look("/api/v1/nodes") or {}).get("items", [])
    return {
        item["metadata"]["name"]: item for item in items if CONTROL_PLANE_ROLE in item["metadata"].get("labels", {})
    }


def why_not_leave(kube: Kube, name: str) -> str | None:
    """Why a node of a k3s or kubeadm cluster must not leave, by etcd's quorum; None where it may."""
    servers = control_planes(kube)
    if name in servers and len(servers) == 1:
        return verdict([name], [name], name)
    told = {key: item for key, item in servers.items() if ETCD_ROLE in item["metadata"]["labels"]}
    members = {key: item for key, item in (told or servers).items() if REMOVED not in notes(item)}
    return verdict(list(members), [key for key, item in members.items() if NodeView.parse(item).ready], name)


def notes(item: Mapping[str, Any]) -> Mapping[str, str]:
    """An object's annotations."""
    return item["metadata"].get("annotations") or {}
