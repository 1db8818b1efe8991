"""What must hold between the platform, the LAN and the cluster: addresses, names, hosts."""

from collections.abc import Iterator
from ipaddress import IPv4Address
from urllib.parse import urlsplit

from .cni import Cni
from .draft import Draft
from .platform import HOSTS, PARTS, ZONE
from .problems import Problem, Where, closest
from .ranges import AddressRange

_DHCP: Where = ("cluster", "network", "dhcp")
_POOLS: Where = ("platform", "pools")
_ADDRESSES: Where = ("platform", "addresses")
_APPLICATIONS: Where = ("platform", "applications")
NAMESPACES = (
    "cert-manager",
    "cilium",
    "cilium-secrets",
    "default",
    "dns-zone",
    "kube-node-lease",
    "kube-public",
    "kube-system",
    "longhorn-system",
    "metallb-system",
)
"""Names of namespaces and services that are there or may come, beside those of the parts."""


def dhcp(draft: Draft) -> Iterator[Problem]:
    """The router gives away no address that something of the lab has for good."""
    if draft.dhcp is None:
        return
    if draft.subnet is not None and not draft.dhcp.inside(draft.subnet):
        yield Problem(_DHCP, f"{draft.dhcp} is not inside of the LAN {draft.subnet}", "correct it")
    if draft.vip is not None and draft.vip in draft.dhcp:
        where = ("cluster", "endpoint", "vip")
        yield Problem(where, f"{draft.vip} is in the DHCP range {draft.dhcp}", "take one that the router never gives")


def pools(draft: Draft) -> Iterator[Problem]:
    """Pools are in the LAN, and nothing else has their addresses."""
    taken = in_the_lan(draft)
    for i, pool in enumerate(draft.platform.pools):
        if pool is not None:
            yield from _pool((*_POOLS, i), pool, draft, taken)
            for other in draft.platform.pools[:i]:
                if other is not None and pool.overlaps(other):
                    yield Problem((*_POOLS, i), f"{pool} overlaps {other}", "write every address once")
    if "metallb" in draft.platform.on and not draft.platform.pools:
        fix = "write for example `pools: [192.168.1.200-192.168.1.250]`"
        yield Problem(_POOLS, "is missing, so MetalLB has no addresses to give", fix)


def _pool(where: Where, pool: AddressRange, draft: Draft, taken: dict[IPv4Address, str]) -> Iterator[Problem]:
    if draft.subnet is not None and not pool.inside(draft.subnet):
        yield Problem(
            where, f"{pool} is not inside of the LAN {draft.subnet}", "MetalLB announces addresses of the LAN"
        )
        return
    if draft.dhcp is not None and pool.overlaps(draft.dhcp):
        yield Problem(where, f"{pool} overlaps the DHCP range {draft.dhcp}", "take what the router never gives away")
    inside = {address: owner for address, owner in sorted(taken.items()) if address in pool}
    if inside:
        owners = ", ".join(f"{address} ({owner})" for address, owner in inside.items())
        free = ", ".join(str(part) for part in pool.without(inside))
        yield Problem(where, f"{pool} holds {owners}", f"write {free}" if free else "take free addresses")


def in_the_lan(draft: Draft) -> dict[IPv4Address, str]:
    """Address -> who has it in the LAN."""
    taken = {node.address: node.name for node in draft.nodes if node.address is not None}
    taken |= {draft.vip: "the VIP"} if draft.vip is not None else {}
    taken |= {draft.gateway: "the gateway"} if draft.gateway is not None else {}
    if draft.subnet is not None:
        taken |= {draft.subnet.network_address: "the network", draft.subnet.broadcast_address: "broadcast"}
    hosts = {name: _host(address) for name, address in draft.boards.items() if address is not None}
    nfs, backup = draft.platform.known.nfs, draft.platform.known.etcd_backup
    hosts |= {"the NFS server": nfs.server} if nfs is not None and nfs.server else {}
    hosts |= {"the NFS server of backups": backup.nfs.server} if backup is not None and backup.nfs else {}
    return taken | {IPv4Address(host): name for name, host in hosts.items() if host.replace(".", "").isdigit()}


def _host(address: str) -> str:
    return urlsplit(address if "://" in address else f"https://{address}").hostname or ""


def fixed(draft: Draft) -> Iterator[Problem]:
    """Every fixed address is of a service that is there, out of the pools, and its alone."""
    known, taken = _services(draft), in_the_lan(draft)
    owners: dict[IPv4Address, str] = {}
    for service, address in draft.platform.addresses.items():
        where = (*_ADDRESSES, service)
        if service not in known:
            yield Problem(where, "is no service that the file declares", _meant(service, known))
        if address is None:
            continue
        if (owner := owners.setdefault(address, service)) != service:
            yield Problem(where, f"{address} is also that of {owner}", "give each service an address of its own")
        elif address in taken:
            yield Problem(where, f"{address} is that of {taken[address]}", "take a free address of platform.pools")
        elif draft.platform.pools and None not in draft.platform.pools and not draft.platform.holds(address):
            shown = ", ".join(str(pool) for pool in draft.platform.pools)
            yield Problem(where, f"{address} is outside of platform.pools", f"take one of {shown}")


def _services(draft: Draft) -> tuple[str, ...]:
    """Services that may have an address of their own: whatever the file declares, on or off."""
    names: list[str] = [name for name in ("traefik", "dns") if name in draft.platform.declared]
    names += [ZONE] if (dns := draft.platform.known.dns) is not None and dns.zone is not None else []
    # A malformed dns part may well have a zone.
    names += [ZONE] if "dns" in names and dns is None else []
    return (*names, *draft.platform.applications)


def _meant(name: str, known: tuple[str, ...]) -> str:
    if meant := closest(name, known):
        return f"did you mean {meant}?"
    return f"services are {', '.join(known)}" if known else "declare the service, or remove its address"


def unaddressed(draft: Draft) -> Iterator[Problem]:
    """What the house is told by address, or DNS answers with, needs one that stays."""
    for service, why in _told(draft).items() if "dns" in draft.platform.on else ():
        if service not in draft.platform.addresses:
            fix = f"give {service} an address of platform.pools"
            yield Problem((*_ADDRESSES, service), f"is missing, and {why}", fix)


def _told(draft: Draft) -> dict[str, str]:
    """Service -> why its address must stay."""
    told = {"dns": "the house's machines ask DNS by address"}
    if "traefik" in draft.platform.on:
        told["traefik"] = "DNS answers with it for every host"
    dns = draft.platform.known.dns
    if dns is not None and dns.zone is not None:
        told[ZONE] = "the house's machines ask DNS by address"
        if dns.zone.answer in draft.platform.on:
            told.setdefault(dns.zone.answer, "DNS answers with it for the zone")
    return told


def resolvers(draft: Draft) -> Iterator[Problem]:
    """Nodes never resolve through the cluster's own DNS (its image could not be pulled), and it not through itself."""
    own = {draft.platform.addresses[name]: name for name in ("dns", ZONE) if draft.platform.addresses.get(name)}
    for i, server in enumerate(draft.nameservers):
        if server in own or draft.platform.holds(server):
            who = f"the address of {own[server]}" if server in own else "in platform.pools"
            where = ("cluster", "network", "nameservers", i)
            yield Problem(where, f"{server} is {who}, inside this cluster", "take the router or a public server")
    dns = draft.platform.known.dns
    if dns is not None and not dns.upstreams:
        yield Problem(("platform", "dns", "upstreams"), "is empty", "write at least one, or leave it out")
    for i, server in enumerate(dns.upstreams if dns is not None else ()):
        if server in own or draft.platform.holds(server):
            where = ("platform", "dns", "upstreams", i)
            yield Problem(where, f"{server} is inside this cluster", "take the router or a public server")


def policies(draft: Draft) -> Iterator[Problem]:
    """Policies mean something only where the CNI enforces them; Cilium's chart only where Cilium runs."""
    if draft.cni is None:
        return
    enforcing = " or ".join(cni.value for cni in Cni if cni.enforces_policies)
    if draft.platform.known.network_policies and not draft.cni.enforces_policies:
        where = ("platform", "network_policies")
        yield Problem(where, f"cluster.cni {draft.cni.value} does not enforce them", f"make cluster.cni {enforcing}")
    if draft.platform.known.cilium is not None and not draft.cni.is_cilium:
        fix = f"make cluster.cni {enforcing}, or remove it"
        yield Problem(("platform", "cilium"), f"cluster.cni is {draft.cni.value}", fix)


def names(draft: Draft) -> Iterator[Problem]:
    """A part, an application or a node is taken out by its name, and takes along what begins with it and a dash."""
    nodes = {node.name: "a node" for node in draft.nodes}
    others = nodes | dict.fromkeys(draft.boards, "a board") | dict.fromkeys(NAMESPACES, "a namespace in use")
    others |= dict.fromkeys(PARTS, "a part of the platform") | {"cluster": "the cluster", "platform": "the platform"}
    others |= {draft.cluster_name: "the cluster"} if draft.cluster_name is not None else {}
    declared = (*nodes, *draft.platform.declared)
    for name in draft.platform.applications:
        where = (*_APPLICATIONS, name)
        if name in others:
            yield Problem(where, f"has the name of {others[name]}", "rename the application")
        for first in takers(name, declared):
            yield Problem(where, f"would be taken along when {first} is destroyed by name", "rename the application")
    for node in draft.nodes:
        if node.name in PARTS:
            yield Problem(node.where, "has the name of a part of the platform", "rename the node")
        for first in takers(node.name, draft.platform.declared):
            yield Problem(node.where, f"would be taken along when {first} is destroyed by name", "rename the node")


def takers(name: str, others: tuple[str, ...]) -> list[str]:
    """Those of `others` that take a name along, because it begins with theirs and a dash."""
    return [name[:i] for i, c in enumerate(name) if c == "-" and name[:i] in others]


def hosts(draft: Draft) -> Iterator[Problem]:
    """One answer for each host name."""
    owners: dict[str, str] = {draft.dns: "the Kubernetes API"} if draft.dns is not None else {}
    for host, name in draft.platform.known.every_host():
        if host in owners:
            where: Where = ("platform", name) if name in HOSTS.values() else (*_APPLICATIONS, name, "host")
            yield Problem(where, f"{host} is also the host of {owners[host]}", "give it a host name of its own")
        owners.setdefault(host, name)
    dns = draft.platform.known.dns
    for host in dns.records if dns is not None else ():
        if host in owners:
            where = ("platform", "dns", "records", host)
            yield Problem(where, f"is the host of {owners[host]}", "remove it: that record is there by itself")
