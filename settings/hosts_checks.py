"""What must hold between hosts, their clusters, and the rest of the lab."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from .clusters import DISTRIBUTIONS
from .problems import Problem, Where, closest

if TYPE_CHECKING:
    from .draft import Draft
    from .hosts_draft import DraftCluster, DraftHost


def clusters(draft: Draft) -> Iterator[Problem]:
    """A cluster is of one kind, has hosts that run it, and an address that all of them share."""
    for cluster in draft.further.clusters.values():
        if len(cluster.made_of) != 1:
            said = "says " + " and ".join(cluster.made_of) if cluster.made_of else "does not say what it is made of"
            yield Problem(cluster.where, said, f"give it exactly one of {', '.join(DISTRIBUTIONS)}")
        if len(cluster.shared) > 1:
            fix = "keep vip, or the load balancer that is there already"
            yield Problem((*cluster.where, "endpoint"), "has both vip and load_balancer", fix)


def k3s(draft: Draft) -> Iterator[Problem]:
    """Somebody runs a k3s cluster; several do it with etcd, behind one address."""
    for cluster in draft.further.clusters.values():
        if cluster.made_of != ("k3s",):
            continue
        members = [host for host in draft.further.hosts if host.cluster == cluster.name]
        servers = draft.further.control_planes(cluster.name)
        if not servers and all(host.role is not None for host in members):
            fix = "give one or three of its hosts the role controlplane"
            yield Problem(cluster.where, "has no enabled control plane", fix)
        if len(servers) > 1 and not cluster.shared:
            fix = "write endpoint.vip, a free address of the LAN"
            yield Problem((*cluster.where, "endpoint"), f"is missing, and {len(servers)} servers need one", fix)
        part = cluster.parts["k3s"]
        if len(servers) > 1 and isinstance(part, dict) and part.get("etcd") is False:
            where = (*cluster.where, "k3s", "etcd")
            yield Problem(where, f"is false, and SQLite can't be shared by {len(servers)} servers", "remove it")
        if cluster.cni is not None and (cluster.cni.is_cilium):
            fix = "write flannel, flannel-host-gw, or none and install your own"
            yield Problem((*cluster.where, "cni"), f"{cluster.cni.value} is not what k3s brings", fix)


def subnets(draft: Draft) -> Iterator[Problem]:
    """Pods, services and the LAN are apart from each other."""
    for cluster in draft.further.clusters.values():
        if cluster.pods is not None and cluster.services is not None and cluster.pods.overlaps(cluster.services):
            where = (*cluster.where, "service_subnet")
            yield Problem(where, f"{cluster.services} overlaps pod_subnet {cluster.pods}", "take another network")
        for key, subnet in (("pod_subnet", cluster.pods), ("service_subnet", cluster.services)):
            if subnet is not None and draft.subnet is not None and subnet.overlaps(draft.subnet):
                fix = "take a network that the house doesn't use"
                yield Problem((*cluster.where, key), f"{subnet} overlaps the LAN {draft.subnet}", fix)


def members(draft: Draft) -> Iterator[Problem]:
    """A host is of a cluster that the file declares, can be found, and can be logged into."""
    known = draft.further.clusters
    for host in draft.further.hosts:
        if host.cluster is not None and host.cluster not in known:
            yield Problem((*host.where, "cluster"), f"'{host.cluster}' is no cluster of this file", _meant(host, known))
        if not host.given & {"address", "mac"}:
            yield Problem(host.where, "has neither address nor mac", "write its address, or the MAC to find it by")
        if not host.has_key and host.cluster in known and not known[host.cluster].has_key:
            fix = f"type `homelab secret 'clusters.{host.cluster}.ssh.key'`"
            yield Problem((*host.where, "ssh", "key"), "is missing, as its cluster has none either", fix)


def _meant(host: DraftHost, known: dict[str, DraftCluster]) -> str:
    if meant := closest(host.cluster or "", known):
        return f"did you mean {meant}?"
    return f"clusters are {', '.join(known)}" if known else "declare it under homelab:clusters"


def addresses(draft: Draft) -> Iterator[Problem]:
    """Nobody shares an address, a MAC or a key; nodes, boards and VIPs included."""
    owners: dict[Hashable, str] = {node.address: node.name for node in draft.nodes if node.address is not None}
    owners |= {draft.vip: "the VIP"} if draft.vip is not None else {}
    owners |= {draft.gateway: "the gateway"} if draft.gateway is not None else {}
    owners |= {IPv4Address(at): name for name, at in draft.boards.items() if at and at.replace(".", "").isdigit()}
    macs: dict[Hashable, str] = {node.mac: node.name for node in draft.nodes if node.mac is not None}
    hosts = draft.further.hosts
    yield from _twice(hosts, lambda host: host.address, ("address",), owners, "give each an address of its own")
    yield from _twice(hosts, lambda host: host.mac, ("mac",), macs, "read it from the card's label or the router")
    fix = "one of them is a copy of the other's card: make new keys on it with `ssh-keygen -A`"
    yield from _twice(hosts, lambda host: host.host_key, ("ssh", "host_key"), {}, fix)
    for cluster in draft.further.clusters.values():
        if cluster.vip is None:
            continue
        where = (*cluster.where, "endpoint", "vip")
        if (owner := owners.setdefault(cluster.vip, f"the VIP of {cluster.name}")) != f"the VIP of {cluster.name}":
            yield Problem(where, f"is also that of {owner}", "take an address that nothing else uses")
        elif draft.dhcp is not None and cluster.vip in draft.dhcp:
            yield Problem(where, f"{cluster.vip} is in the DHCP range {draft.dhcp}", "take one outside of it")
        elif draft.platform.holds(cluster.vip):
            yield Problem(where, f"{cluster.vip} is in platform.pools", "take an address that nothing else uses")


def _twice(
    hosts: Iterable[DraftHost],
    value: Callable[[DraftHost], Hashable | None],
    key: Where,
    owners: dict[Hashable, str],
    fix: str,
) -> Iterator[Problem]:
    for host in hosts:
        found = value(host)
        if found is not None and (owner := owners.setdefault(found, host.name)) != host.name:
            yield Problem((*host.where, *key), f"is also that of {owner}", fix)


def names(draft: Draft) -> Iterator[Problem]:
    """A host or a cluster is taken out by its name, so nothing else has it or begins with it and a dash."""
    others = {node.name: "a node" for node in draft.nodes} | dict.fromkeys(draft.boards, "a board")
    others |= {"cluster": "the cluster", "platform": "the platform", "secrets": "a part of the cluster"}
    others |= {draft.cluster_name: "the cluster"} if draft.cluster_name is not None else {}
    others |= dict.fromkeys(draft.platform.declared, "a part of the platform")
    others |= dict.fromkeys(draft.platform.applications, "an application")
    ours: dict[str, Where] = {name: cluster.where for name, cluster in draft.further.clusters.items()}
    for host in draft.further.hosts:
        if host.name in ours:
            yield Problem(host.where, "has the name of a cluster", "rename the host")
        ours.setdefault(host.name, host.where)
    for name, where in ours.items():
        if name in others:
            yield Problem(where, f"has the name of {others[name]}", "rename it")
        for first in (name[:i] for i, c in enumerate(name) if c == "-" and name[:i] in {**others, **ours}):
            yield Problem(where, f"would be taken along when {first} is destroyed by name", "rename it")


def even(draft: Draft) -> Iterator[Problem]:
    """A warning: an even number of etcd members survives no more losses than one less."""
    for cluster in draft.further.clusters.values():
        count = len(draft.further.control_planes(cluster.name))
        if count and count % 2 == 0:
            survives = "no loss" if count == 2 else f"{(count - 1) // 2} lost"
            message = f"{count} control planes survive {survives}, as {count - 1} do"
            yield Problem(cluster.where, message, f"make it {count - 1} or {count + 1}")


CHECKS = (clusters, k3s, subnets, members, addresses, names)
"""Every check of hosts, in the order in which problems are found."""
