"""What must hold between settings. Each check is a pure function from a draft to problems."""

from collections.abc import Callable, Hashable, Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network
from urllib.parse import urlsplit

from . import (
    cards_checks,
    certificates,
    hosts_checks,
    kubeadm_checks,
    parts_checks,
    platform_checks,
    pools_checks,
    rancher_checks,
    support,
    tenants_checks,
)
from .draft import Draft, DraftNode
from .patches import patches
from .problems import Problem, Where, closest

Check = Callable[[Draft], Iterable[Problem]]

_VIP: Where = ("cluster", "endpoint", "vip")
_SUBNET: Where = ("cluster", "network", "subnet")
_TAKEN_PORTS = {
    2379: "etcd",
    2380: "etcd",
    7445: "KubePrism",
    10250: "the kubelet",
    10257: "the controller manager",
    10259: "the scheduler",
    50000: "the Talos API",
    50001: "trustd",
}
_NODE_MASK = 24
"""Length of the pod network that kube-controller-manager gives each node (`--node-cidr-mask-size`)."""


def _listener(address: str) -> tuple[str, int]:
    """Host and port of a board's address, which may be a URL or carry a port."""
    url = urlsplit(address if "://" in address else f"https://{address}")
    return url.hostname or "", url.port or (80 if url.scheme == "http" else 443)


def _twice(nodes: Iterable[tuple[Hashable, DraftNode]], key: Where, what: str, fix: str) -> Iterator[Problem]:
    seen: dict[Hashable, DraftNode] = {}
    for value, node in nodes:
        first = seen.setdefault(value, node)
        if first is not node:
            yield Problem((*node.where, *key), f"{what} {first.name}", fix)


def slots(draft: Draft) -> Iterator[Problem]:
    """One module a slot."""
    taken = (((n.board, n.slot), n) for n in draft.nodes if n.board is not None and n.slot is not None)
    yield from _twice(taken, ("machine", "slot"), "is taken by", "give each node a slot of its own")


def addresses(draft: Draft) -> Iterator[Problem]:
    """Nobody shares an address: nodes, boards, VIP and gateway."""
    nodes = ((n.address, n) for n in draft.nodes if n.address is not None)
    yield from _twice(nodes, ("address",), "is also the address of", "give each node its own DHCP reservation")
    owners = _owners(draft)
    for node in draft.nodes:
        if node.address in owners:
            yield Problem((*node.where, "address"), f"is also {owners[node.address]}", "give the node a free address")
    if draft.vip is not None and (owner := _others_than_vip(draft).get(draft.vip)):
        yield Problem(_VIP, f"is also {owner}", "take an address that nothing else uses")


def _owners(draft: Draft) -> dict[IPv4Address, str]:
    return _others_than_vip(draft) | ({draft.vip: "the VIP"} if draft.vip is not None else {})


def _others_than_vip(draft: Draft) -> dict[IPv4Address, str]:
    owners = {draft.gateway: "the gateway"} if draft.gateway is not None else {}
    for name, address in draft.boards.items():
        if address is not None and (host := _listener(address)[0]).replace(".", "").isdigit():
            owners[IPv4Address(host)] = f"the address of {name}"
    return owners


def boards(draft: Draft) -> Iterator[Problem]:
    """Every board once, and every node on a board that is there."""
    seen: dict[Hashable, str] = {}
    for name, address in draft.boards.items():
        first = seen.setdefault(_listener(address), name) if address is not None else name
        if first != name:
            yield Problem(("boards", name, "address"), f"is also the address of {first}", "write each board once")
        if name in draft.pinned and address is not None and address.startswith("http://"):
            yield Problem(
                ("boards", name, "fingerprint"), "pins a certificate, and http has none", "use https or remove it"
            )
    for node in draft.nodes:
        if node.board is not None and node.board not in draft.boards:
            meant = closest(node.board, draft.boards)
            fix = f"did you mean {meant}?" if meant else "add it under boards"
            yield Problem((*node.where, "machine", "board"), f"'{node.board}' is not a board", fix)


def ports(draft: Draft) -> Iterator[Problem]:
    """The API's port is free on a control plane."""
    if draft.port in _TAKEN_PORTS:
        where = ("cluster", "endpoint", "port")
        yield Problem(where, f"{draft.port} is taken by {_TAKEN_PORTS[draft.port]} on control planes", "take 6443")


def macs(draft: Draft) -> Iterator[Problem]:
    """One network card a node."""
    cards = ((n.mac, n) for n in draft.nodes if n.mac is not None)
    yield from _twice(cards, ("mac",), "is also the MAC address of", "read each module's own address")


def names(draft: Draft) -> Iterator[Problem]:
    """A pattern that means one node (`**::node3`, `**::node3-*`) must hit nothing else."""
    others = dict.fromkeys(draft.boards, "a board") | {"cluster": "the cluster", "platform": "the platform"}
    others |= {draft.cluster_name: "the cluster"} if draft.cluster_name is not None else {}
    everyone = {node.name for node in draft.nodes}
    for node in draft.nodes:
        if node.name in others:
            yield Problem(node.where, f"has the name of {others[node.name]}", "rename the node")
        for part in (node.name[:i] for i, c in enumerate(node.name) if c == "-"):
            if part in everyone:
                fix = f"rename {part}, for example to {part}-0"
                yield Problem(node.where, f"would be taken along when {part} is destroyed by name", fix)


def lan(draft: Draft) -> Iterator[Problem]:
    """The VIP (layer 2), the nodes and the gateway are hosts of the LAN."""
    subnet = draft.subnet
    if subnet is None:
        return
    if subnet.prefixlen > 30:
        yield Problem(_SUBNET, f"{subnet} has no room for nodes", "write the whole LAN, such as 192.168.1.0/24")
        return
    hosts: list[tuple[Where, IPv4Address | None]] = [
        (_VIP, draft.vip),
        (("cluster", "network", "gateway"), draft.gateway),
    ]
    hosts += [((*node.where, "address"), node.address) for node in draft.nodes]
    for where, address in hosts:
        if address is not None and (fault := _outside(address, subnet)):
            yield Problem(where, fault, "correct it or cluster.network.subnet")


def _outside(address: IPv4Address, subnet: IPv4Network) -> str | None:
    if address not in subnet:
        return f"{address} is outside of the LAN {subnet}"
    ends = {subnet.network_address: "network", subnet.broadcast_address: "broadcast"}
    return f"{address} is the {ends[address]} address of {subnet}" if address in ends else None


def overlaps(draft: Draft) -> Iterator[Problem]:
    """Pods, services and the LAN are apart."""
    nets: list[tuple[str, Where, IPv4Network]] = []
    if draft.subnet is not None:
        nets.append(("the LAN", _SUBNET, draft.subnet))
    for what, key, found in (
        ("the pods", "pod_subnets", draft.pods),
        ("the services", "service_subnets", draft.services),
    ):
        nets += [(what, ("cluster", key, i), net) for i, net in enumerate(found) if net is not None]
    for i, (_, where, net) in enumerate(nets):
        for what, _, other in nets[:i]:
            if net.overlaps(other):
                yield Problem(where, f"{net} overlaps {other} of {what}", "take another private network")


def sizes(draft: Draft) -> Iterator[Problem]:
    """One network each, of a size that the control plane accepts."""
    for key, found in (("pod_subnets", draft.pods), ("service_subnets", draft.services)):
        if len(found) != 1:
            yield Problem(("cluster", key), f"has {len(found)} networks", "write one IPv4 network")
    pods, services = next(iter(draft.pods), None), next(iter(draft.services), None)
    if pods is not None and not _has_room(pods, len(draft.nodes)):
        fix = "take a /16: every node gets a /24 of it"
        yield Problem(("cluster", "pod_subnets", 0), f"{pods} has no /24 for each of {len(draft.nodes)} nodes", fix)
    # kube-apiserver: at most 20 bits for hosts; and it reserves the first addresses for itself and CoreDNS.
    if services is not None and not 12 <= services.prefixlen <= 27:
        yield Problem(("cluster", "service_subnets", 0), f"{services} is not between /12 and /27", "take 10.96.0.0/12")


def _has_room(pods: IPv4Network, nodes: int) -> bool:
    # kube-controller-manager refuses a node mask more than 16 bits longer than the network's.
    return _NODE_MASK - 16 <= pods.prefixlen <= _NODE_MASK and 2 ** (_NODE_MASK - pods.prefixlen) >= nodes


def versions(draft: Draft) -> Iterator[Problem]:
    """Talos supports this Kubernetes, and this program supports this Talos."""
    if draft.talos is None:
        return
    if support.minor(draft.talos) not in support.KUBERNETES_BY_TALOS:
        fix = f"take one of {support.talos_range()}"
        yield Problem(("cluster", "talos", "version"), f"{draft.talos} is not supported by this program", fix)
    elif draft.kubernetes is not None and (reason := support.unsupported(draft.talos, draft.kubernetes)):
        fix = f"take one of {support.kubernetes_range(draft.talos)}"
        yield Problem(("cluster", "kubernetes", "version"), reason, fix)


def quorum(draft: Draft) -> Iterator[Problem]:
    """Somebody runs etcd."""
    if any(node.role is None for node in draft.nodes):
        return
    if not _control_planes(draft) and (draft.nodes or not draft.further.hosts):
        fix = "give one or three nodes the role controlplane"
        yield Problem(("nodes",), "there is no enabled control plane", fix)


def resolvers(draft: Draft) -> Iterator[Problem]:
    """Nodes that ask a DNS server inside their own cluster can't pull its image while it is down."""
    inside = {node.address: node.name for node in draft.nodes} | {draft.vip: "the VIP"}
    for i, server in enumerate(draft.nameservers):
        if server is not None and server in inside:
            where = ("cluster", "network", "nameservers", i)
            yield Problem(
                where, f"{server} is {inside[server]}, inside this cluster", "take the router or a public server"
            )


def installs(draft: Draft) -> Iterator[Problem]:
    """A disk or a selector."""
    for name, install in draft.installs.items():
        if not isinstance(install, dict):
            continue
        where = ("nodes", name, "install")
        if install.get("disk") is not None and install.get("selector") is not None:
            yield Problem(where, "has both disk and selector", "keep one of them")
        if install.get("selector") == {}:
            yield Problem((*where, "selector"), "selects every disk", "write at least one attribute, such as size")


def extensions(draft: Draft) -> Iterator[Problem]:
    """Each extension once."""
    for i, extension in enumerate(draft.extensions):
        if extension is not None and extension in draft.extensions[:i]:
            yield Problem(("cluster", "talos", "extensions", i), f"{extension} is there twice", "remove one")


def images(draft: Draft) -> Iterator[Problem]:
    """One image serves one kind of module: the overlay is in it."""
    kinds = sorted({node.module.value for node in draft.nodes if node.module is not None})
    for key in draft.single_image if len(kinds) > 1 else ():
        fix = "remove it, so that each kind gets its own from the factory"
        yield Problem(("cluster", "talos", key), f"is one image for two kinds of module ({' and '.join(kinds)})", fix)


def _control_planes(draft: Draft) -> list[DraftNode]:
    return [node for node in draft.nodes if node.role == "controlplane" and not node.disabled]


CHECKS: tuple[Check, ...] = (
    versions,
    extensions,
    images,
    addresses,
    lan,
    overlaps,
    sizes,
    resolvers,
    boards,
    names,
    slots,
    macs,
    ports,
    installs,
    quorum,
    patches,
    platform_checks.dhcp,
    platform_checks.pools,
    platform_checks.fixed,
    platform_checks.unaddressed,
    platform_checks.resolvers,
    platform_checks.policies,
    platform_checks.names,
    platform_checks.hosts,
    parts_checks.needs,
    parts_checks.longhorn,
    parts_checks.nfs,
    parts_checks.classes,
    parts_checks.storage,
    parts_checks.zone,
    parts_checks.backups,
    parts_checks.receivers,
    parts_checks.applications,
    certificates.keys,
    *cards_checks.CHECKS,
    *pools_checks.CHECKS,
    *tenants_checks.CHECKS,
    *hosts_checks.CHECKS,
    *kubeadm_checks.CHECKS,
    *rancher_checks.CHECKS,
)
"""Every check, in the order in which problems are found."""
