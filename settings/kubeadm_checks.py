"""What must hold for clusters that kubeadm makes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING, Any

from pydantic import StrictInt

from . import kinds, support
from .problems import Problem, Where, closest
from .wellformed import read

if TYPE_CHECKING:
    from .draft import Draft
    from .hosts_draft import DraftCluster, DraftHost

API_PORT = 6443
OLDEST = (1, 31)  # the first that reads kubeadm's documents of version v1beta4


@dataclass(frozen=True)
class _One:
    """A kubeadm cluster with what the checks ask of it."""

    cluster: DraftCluster
    part: dict[str, Any]
    planes: list[DraftHost]
    hosts: dict[str, DraftHost]  # all of the file
    port: int | None

    @property
    def where(self) -> Where:
        return (*self.cluster.where, "kubeadm")

    @property
    def members(self) -> list[DraftHost]:
        return [h for h in self.hosts.values() if h.cluster == self.cluster.name and not h.disabled]

    @property
    def balancer(self) -> dict[str, Any] | None:
        return _map(self.part.get("balancer")) if self.part.get("balancer") is not None else None

    @property
    def balancers(self) -> list[str]:
        named = (self.balancer or {}).get("hosts")
        return [name for name in named if isinstance(name, str)] if isinstance(named, list) else []

    @property
    def segment(self) -> IPv4Network | None:
        return None if self.part.get("segment") is None else read(kinds.Subnet, self.part["segment"])

    @property
    def addresses(self) -> dict[str, IPv4Address]:
        given = {name: read(kinds.Address, raw) for name, raw in _map(self.part.get("addresses")).items()}
        return {name: address for name, address in given.items() if address is not None}

    @property
    def router(self) -> int | None:
        given = (self.balancer or {}).get("router")
        if type(given) is int:
            return given
        return int(self.cluster.vip) % 256 if self.balancer is not None and self.cluster.vip is not None else None


def _map(raw: object) -> dict[str, Any]:
    return {key: value for key, value in raw.items() if isinstance(key, str)} if isinstance(raw, dict) else {}


def _all(draft: Draft) -> Iterator[_One]:
    further = draft.further
    for cluster in further.clusters.values():
        if cluster.made_of == ("kubeadm",):
            part = _map(cluster.parts["kubeadm"])
            hosts = {host.name: host for host in further.hosts}
            yield _One(cluster, part, further.control_planes(cluster.name), hosts, _port(cluster))


def _port(cluster: DraftCluster) -> int | None:
    raw = cluster.endpoint.get("port")
    return API_PORT if raw is None else read(StrictInt, raw)


def planes(draft: Draft) -> Iterator[Problem]:
    """Somebody runs the API, and everybody who does can be reached before the cluster is there."""
    for one in _all(draft):
        if not one.planes and all(host.role is not None for host in one.members):
            fix = "give one, three or five of its hosts the role controlplane"
            yield Problem(one.cluster.where, "has no enabled control plane", fix)
        for host in one.planes:
            if "address" not in host.given:
                fix = "give it a DHCP reservation, and write that address"
                yield Problem((*host.where, "address"), "is missing, and others find a control plane by it", fix)


def version(draft: Draft) -> Iterator[Problem]:
    """Our documents are of a version that this kubeadm reads."""
    for one in _all(draft):
        found = read(kinds.Version, one.part.get("version")) if one.part.get("version") is not None else None
        if found is not None and support.minor(found) < OLDEST:
            yield Problem(
                (*one.where, "version"), f"{found} is older than this program's documents", "take v1.31 or newer"
            )


def endpoint(draft: Draft) -> Iterator[Problem]:
    """One address for all control planes, and exactly one who holds it."""
    for one in _all(draft):
        where: Where = (*one.cluster.where, "endpoint")
        holders = [name for name in ("balancer", "kube_vip") if one.part.get(name) is not None]
        if len(one.planes) > 1 and not one.cluster.shared:
            yield Problem(where, f"is missing, and {len(one.planes)} control planes need one", "write endpoint.vip")
        if len(holders) > 1:
            yield Problem(one.where, "has both balancer and kube_vip", "keep the one that shall hold the VIP")
        elif one.cluster.shared == ("vip",) and not holders:
            fix = "write kubeadm.balancer with its hosts, or `kube_vip: {}`"
            yield Problem((*where, "vip"), "is held by nobody", fix)
        elif holders and "vip" not in one.cluster.shared:
            yield Problem((*one.where, holders[0]), "has no VIP to hold", "write endpoint.vip, or remove it")


def ports(draft: Draft) -> Iterator[Problem]:
    """The endpoint's port is free where somebody listens at it."""
    for one in _all(draft):
        where: Where = (*one.cluster.where, "endpoint", "port")
        shared = [host.name for host in one.planes if host.name in one.balancers]
        if one.port == API_PORT and shared:
            message = f"{API_PORT} is taken by the API server on {shared[0]}, which is a balancer too"
            yield Problem(where, message, "take another one, such as 8443, or balancers that are no control planes")
        if one.part.get("kube_vip") is not None and one.port not in (None, API_PORT):
            yield Problem(
                where, f"{one.port} is not where API servers listen, and kube-vip passes nothing on", "remove it"
            )


def balancers(draft: Draft) -> Iterator[Problem]:
    """Balancers are hosts of the file that are known by address; and their VRRP numbers differ."""
    routers: dict[int, str] = {}
    for one in _all(draft):
        where: Where = (*one.where, "balancer", "hosts")
        if one.balancer is not None and one.balancer.get("hosts") == []:
            yield Problem(where, "names nobody", "write two of the hosts, so that one may die")
        for i, name in enumerate(one.balancers):
            if name not in one.hosts:
                meant = closest(name, one.hosts)
                fix = f"did you mean {meant}?" if meant else "declare it under homelab:hosts"
                yield Problem((*where, i), f"'{name}' is no host of this file", fix)
            elif name in one.balancers[:i]:
                yield Problem((*where, i), f"{name} is there twice", "remove one")
            elif "address" not in one.hosts[name].given:
                fix = "give it a DHCP reservation, and write that address"
                yield Problem(("hosts", name, "address"), "is missing, and the other balancers find it by it", fix)
        if one.router is not None and (other := routers.setdefault(one.router, one.cluster.name)) != one.cluster.name:
            fix = "write another number from 1 to 255"
            yield Problem((*one.where, "balancer", "router"), f"{one.router} is also that of {other}", fix)


def segments(draft: Draft) -> Iterator[Problem]:
    """In a segment of its own every host of the cluster has an address, and nobody twice."""
    for one in _all(draft):
        where: Where = (*one.where, "addresses")
        if one.segment is None:
            if one.addresses and one.part.get("segment") is None:
                yield Problem(where, "are addresses in no segment", "write kubeadm.segment, or remove them")
            continue
        yield from _segment(one, one.segment, where)
        for key, subnet in (("pod_subnet", one.cluster.pods), ("service_subnet", one.cluster.services)):
            if subnet is not None and subnet.overlaps(one.segment):
                message = f"{one.segment} overlaps {key} {subnet}"
                yield Problem((*one.where, "segment"), message, "take another network for one of them")


def _segment(one: _One, segment: IPv4Network, where: Where) -> Iterator[Problem]:
    raw = _map(one.part.get("addresses"))
    for host in one.members:
        if host.name not in raw and not (host.name in one.balancers and _holds_vip(one, segment)):
            yield Problem(
                (*where, host.name), "is missing, as the cluster has a segment of its own", f"write one of {segment}"
            )
    for name in one.balancers if _holds_vip(one, segment) else ():
        if name in one.hosts and name not in raw:
            fix = f"write one of {segment}"
            yield Problem((*where, name), "is missing, as this balancer shall hold a VIP of the segment", fix)
    known = {host.name for host in one.members} | set(one.balancers)
    seen: dict[IPv4Address, str] = {one.cluster.vip: "the VIP"} if one.cluster.vip is not None else {}
    for name, address in one.addresses.items():
        if name not in known:
            yield Problem((*where, name), "is no host of this cluster", "remove it, or correct the name")
        elif address not in segment:
            yield Problem((*where, name), f"{address} is outside of the segment {segment}", "correct one of them")
        elif (owner := seen.setdefault(address, name)) != name:
            yield Problem((*where, name), f"is also that of {owner}", "give each an address of its own")
    if one.part.get("kube_vip") is not None and one.cluster.vip is not None and one.cluster.vip not in segment:
        place: Where = (*one.cluster.where, "endpoint", "vip")
        yield Problem(
            place, f"{one.cluster.vip} is outside of the segment {segment}", "kube-vip holds it there: take one of it"
        )


def _holds_vip(one: _One, segment: IPv4Network) -> bool:
    """Whether the VIP is in the segment."""
    return one.cluster.vip is not None and one.cluster.vip in segment


CHECKS = (planes, version, endpoint, ports, balancers, segments)
"""Every check of kubeadm clusters, in the order in which problems are found."""
