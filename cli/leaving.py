"""Before a node or a part leaves: is it there, may it leave, and what will happen. Nothing is touched here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from cli import credentials
from cli.engine import Resource
from cli.observe import Lab
from cli.stacks import suggestion
from providers.errors import HomelabError, RefusedError, UserError
from providers.kubernetes import departure
from providers.kubernetes.client import Kube
from providers.talos import leave
from providers.talos.quorum import verdict
from settings import Host

OPERATOR, TENANT = "kamaji", "homelab:Tenant"  # the part that makes tenants, and the type of one


@dataclass(frozen=True)
class Leaving:
    """What is about to leave: a node, a host, a pool's machine, a cluster, a part of the platform.

    Attributes:
        parts: everything that leaves with it.
        component: what kind of thing it is, as the program's components are called.
    """

    name: str
    parts: tuple[Resource, ...]
    component: str = "Node"

    @property
    def target(self) -> str:
        """The engine's pattern for it. It wants full URNs or globs, and says "no resource named" to a bare name."""
        return f"**::{self.name}"


def find(resources: Sequence[Resource], name: str) -> Leaving:
    """The node, or whatever else can leave by itself, of that name in the stack's state.

    Raises:
        UserError: there is none.
        RefusedError: it is what tenants are made of, and some are there: their etcd would go with it.
    """
    found = {resource.name: resource for resource in resources if resource.is_node or resource.is_part}
    if name not in found:
        raise UserError(f"no node or part {name!r} in this stack; {suggestion(name, sorted(found))}")
    tenants = sorted(resource.name for resource in found.values() if resource.type == TENANT)
    if name == OPERATOR and tenants:
        listed = ", ".join(tenants)
        raise RefusedError(
            f"{name} stays: {listed} would end with it; `homelab destroy-target {tenants[0]}` takes one out"
        )
    return Leaving(name, tuple(_under(resources, found[name])), found[name].component)


def _under(resources: Sequence[Resource], root: Resource) -> Iterator[Resource]:
    """The resource and all below it. State lists a parent before its children."""
    inside = {root.urn}
    for resource in resources:
        if resource.urn == root.urn or resource.parent in inside:
            inside.add(resource.urn)
            yield resource


def refuse_harm(lab: Lab, leaving: Leaving) -> None:
    """Hold back what would cost its cluster the quorum, by the settings and by what the cluster says now.

    Raises:
        RefusedError: with the reason.
    """
    if leaving.component == "Node":
        _refuse_node(lab, leaving.name)
    host = lab.settings.hosts.get(leaving.name)
    if leaving.component == "Host" and host is not None and host.is_control_plane:
        _refuse_host(lab, host)


def _refuse_host(lab: Lab, host: Host) -> None:
    declared = [one.name for one in lab.settings.hosts_of(host.cluster) if one.is_control_plane]
    if declared == [host.name]:
        raise RefusedError(
            f"{host.name} stays: it is the last control plane of {host.cluster}; "
            f"`homelab destroy-target {host.cluster}` ends that cluster"
        )
    kubeconfig = credentials.kubeconfig_of(lab.stack, credentials.CLUSTERS, host.cluster)
    if kubeconfig is None:
        return  # no such cluster has come up here yet
    try:
        with Kube(kubeconfig) as kube:
            reason = departure.why_not_leave(kube, host.name)
    except HomelabError as error:
        reason = f"it can't be known what its leaving costs: {error}"
    if reason:
        raise RefusedError(f"{host.name} stays: {reason}")


def _refuse_node(lab: Lab, name: str) -> None:
    node = lab.settings.nodes.get(name)
    if node is not None and not node.is_control_plane:
        return
    declared = lab.control_planes
    static = verdict(declared, declared, name) if name in declared else None
    if static:
        raise RefusedError(f"{name} stays: {static}")
    if lab.certificate is None:
        return  # no cluster has come up here yet, so there is no etcd to lose
    etcd = leave.observe(declared, lab.certificate)
    if etcd is None:
        raise RefusedError(
            f"{name} stays: no control plane says how etcd is, so it can't be known what its leaving costs; "
            "`homelab status` shows who answers"
        )
    voting = [member.hostname for member in etcd.members if not member.learner]
    reason = verdict(voting, etcd.healthy, name)
    if reason:
        raise RefusedError(f"{name} stays: {reason}")


def story(lab: Lab, leaving: Leaving) -> list[str]:
    """What will happen, step by step."""
    return [step for step in STORIES.get(leaving.component, _part_story)(lab, leaving) if step]


def _node_story(lab: Lab, leaving: Leaving) -> list[str]:
    node = lab.settings.nodes.get(leaving.name)
    control_plane = node is not None and node.is_control_plane
    stores = lab.settings.platform.on("longhorn")
    return [
        "replicas of Longhorn's volumes move to other nodes; with the last healthy one it stays" if stores else "",
        "its pods are evicted, as far as disruption budgets let them go in time",
        "it leaves etcd (a healthy peer removes it if it is dead)" if control_plane else "",
        "its Node object is deleted",
        "its disk's STATE and EPHEMERAL partitions are wiped; what pods kept on it is lost",
        "it is powered off",
    ]


def _host_story(lab: Lab, leaving: Leaving) -> list[str]:
    host = lab.settings.hosts.get(leaving.name)
    return [
        "its pods are evicted, as far as disruption budgets let them go in time",
        "it leaves etcd, if its cluster has one" if host is not None and host.is_control_plane else "",
        "its Node object is deleted",
        "Kubernetes is removed from it, with what pods kept there; its system stays, and it stays on",
    ]


def _machine_story(_lab: Lab, _leaving: Leaving) -> list[str]:
    return [
        "its pods are evicted, as far as disruption budgets let them go in time",
        "its Node object is deleted",
        "it is switched off, where its BMC can",
    ]


def _cluster_story(_lab: Lab, leaving: Leaving) -> list[str]:
    hosts = ", ".join(part.name for part in leaving.parts if part.component == "Host")
    return [
        f"the whole cluster ends, and everything that it stored: {hosts}",
        "Kubernetes is removed from these hosts; their systems stay, and they stay on",
    ]


def _card_story(_lab: Lab, _leaving: Leaving) -> list[str]:
    return ["it is forgotten; what is written on the card stays"]


def _part_story(_lab: Lab, leaving: Leaving) -> list[str]:
    claims = [part.name for part in leaving.parts if part.type.endswith(":PersistentVolumeClaim")]
    objects = sum(1 for part in leaving.parts if part.type.startswith("kubernetes:") and "helm.sh" not in part.type)
    return [
        f"its {objects} Kubernetes objects are deleted",
        f"its volume claims are deleted, and what they hold goes the way of their storage class: {', '.join(claims)}"
        if claims
        else "",
    ]


STORIES: dict[str, Callable[[Lab, Leaving], list[str]]] = {
    "Node": _node_story,
    "Host": _host_story,
    "PoolNode": _machine_story,
    "K3s": _cluster_story,
    "Kubeadm": _cluster_story,
    "Card": _card_story,
}
"""By component; everything else is a part of the platform."""
