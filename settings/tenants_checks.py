"""What must hold between tenants, the platform that they are made of, and the LAN."""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

from . import support
from .draft import Draft
from .platform import PARTS
from .platform_checks import NAMESPACES, in_the_lan, takers
from .problems import Problem
from .tenants import KONNECTIVITY_PORT

_NEEDED = {
    "metallb": ("an address of its own", "metallb", "add `metallb: {}` and pools under homelab:platform"),
    "cert-manager": ("certificates", "cert_manager", "add `cert_manager: {}` under homelab:platform"),
}
_RENAME = "rename the tenant"


def needs(draft: Draft) -> Iterator[Problem]:
    """A tenant is made of the platform: an address by MetalLB, certificates by cert-manager, volumes of its etcd."""
    for tenant in draft.tenants:
        for part, (what, key, fix) in _NEEDED.items():
            if part not in draft.platform.on:
                yield Problem(tenant.where, f"needs {what}, and the part {key} is off", fix)
        if not {"longhorn", "nfs"} & draft.platform.on:
            yield Problem(tenant.where, "has no place for its etcd's data", "turn the part longhorn on, or nfs")


def addresses(draft: Draft) -> Iterator[Problem]:
    """Every tenant has an address of the pools that nothing else has."""
    owners = in_the_lan(draft)
    owners |= {at: name for name, at in draft.platform.addresses.items() if at is not None}
    for tenant in draft.tenants:
        if tenant.address is None:
            continue
        if fault := _address(tenant.address, draft, owners):
            yield Problem((*tenant.where, "address"), *fault)
        owners.setdefault(tenant.address, f"tenant {tenant.name}")


def _address(address: IPv4Address, draft: Draft, owners: dict[IPv4Address, str]) -> tuple[str, str] | None:
    if owner := owners.get(address):
        return f"{address} is that of {owner}", "take a free address of platform.pools"
    if draft.platform.pools and None not in draft.platform.pools and not draft.platform.holds(address):
        shown = ", ".join(str(pool) for pool in draft.platform.pools)
        return f"{address} is outside of platform.pools", f"take one of {shown}"
    return None


def ports(draft: Draft) -> Iterator[Problem]:
    """The API and Konnectivity are at one address."""
    for tenant in draft.tenants:
        if tenant.konnectivity and tenant.port == KONNECTIVITY_PORT:
            yield Problem((*tenant.where, "port"), f"{tenant.port} is Konnectivity's", "take 6443")


def networks(draft: Draft) -> Iterator[Problem]:
    """A tenant's pods and services are apart from each other, from the LAN, and from the home cluster's.

    Its API server is a pod of the home cluster and answers for services of its own: an address that is in both would
    lead it to the wrong one. Two tenants never meet, and may have the same networks.
    """
    home = _home(draft)
    for tenant in draft.tenants:
        for what, key, net in (("its pods", "pod_subnet", tenant.pods), ("", "service_subnet", tenant.services)):
            others = [*home, *([("its pods", tenant.pods)] if not what and tenant.pods is not None else [])]
            for whose, other in others if net is not None else ():
                if net is not None and net.overlaps(other):
                    fault = f"{net} overlaps {other} of {whose}"
                    yield Problem((*tenant.where, key), fault, "take another private network")
        if tenant.services is not None and not 12 <= tenant.services.prefixlen <= 27:
            where = (*tenant.where, "service_subnet")
            yield Problem(where, f"{tenant.services} is not between /12 and /27", "take 10.112.0.0/16")


def _home(draft: Draft) -> list[tuple[str, IPv4Network]]:
    found = [("the LAN", draft.subnet)]
    found += [("the home cluster's pods", net) for net in draft.pods]
    found += [("the home cluster's services", net) for net in draft.services]
    return [(what, net) for what, net in found if net is not None]


def versions(draft: Draft) -> Iterator[Problem]:
    """A Kubernetes that this program knows of."""
    low = min(first for first, _ in support.KUBERNETES_BY_TALOS.values())
    high = max(last for _, last in support.KUBERNETES_BY_TALOS.values())
    for tenant in draft.tenants:
        if tenant.version is not None and not low <= support.minor(tenant.version) <= high:
            fix = f"take one of {support.text(low)} to {support.text(high)}"
            yield Problem((*tenant.where, "version"), f"{tenant.version} is not supported by this program", fix)


def names(draft: Draft) -> Iterator[Problem]:
    """A tenant is taken out by its name, which is also that of its namespace."""
    others = _others(draft)
    nodes = tuple(node.name for node in draft.nodes)
    clusters = tuple(draft.further.clusters)
    declared = (*(tenant.name for tenant in draft.tenants), *nodes, *draft.platform.declared, *clusters)
    beside = (*nodes, *draft.platform.applications, *PARTS, *clusters)
    for tenant in draft.tenants:
        if tenant.name in others:
            yield Problem(tenant.where, f"has the name of {others[tenant.name]}", _RENAME)
        for first in takers(tenant.name, declared):
            yield Problem(tenant.where, f"would be taken along when {first} is destroyed by name", _RENAME)
        for other in (name for name in beside if name.startswith(f"{tenant.name}-")):
            yield Problem(tenant.where, f"would take {other} along when it is destroyed by name", _RENAME)


def _others(draft: Draft) -> dict[str, str]:
    others = {node.name: "a node" for node in draft.nodes} | dict.fromkeys(draft.boards, "a board")
    others |= dict.fromkeys((*NAMESPACES, "kamaji-system"), "a namespace in use")
    others |= dict.fromkeys((*PARTS, "kamaji", "cilium"), "a part of the platform")
    others |= dict.fromkeys(draft.platform.applications, "an application")
    others |= dict.fromkeys((host.name for host in draft.further.hosts), "a host")
    others |= dict.fromkeys(draft.further.clusters, "a cluster")
    others |= {"cluster": "the cluster", "platform": "the platform"}
    return others | ({draft.cluster_name: "the cluster"} if draft.cluster_name is not None else {})


CHECKS = (needs, addresses, ports, networks, versions, names)
"""Every check of tenants."""
