"""What must hold between pools, their boot service and the rest of the settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

from .platform import PARTS
from .pools import MAX_RANGE, Approval, BootService, Mode, Pool, PoolMachine
from .problems import Problem, Where, closest
from .wellformed import read

if TYPE_CHECKING:
    from .draft import Draft, DraftNode
    from .hosts_draft import DraftHost

_SERVICE: Where = ("boot_service",)


@dataclass(frozen=True)
class PoolsDraft:
    """The well-formed pools and boot service of a file.

    Attributes:
        pools: by name, without the malformed ones.
        declared: names of all pools.
        service: None where it is absent or malformed.
        has_service: whether the file has one, malformed or not.
    """

    pools: dict[str, Pool]
    declared: tuple[str, ...]
    service: BootService | None
    has_service: bool

    @property
    def machines(self) -> Iterator[tuple[Where, str, Pool, PoolMachine]]:
        """Place, name, pool and machine of every machine."""
        for name, pool in self.pools.items():
            for machine, settings in pool.machines.items():
                yield ("pools", name, "machines", machine), machine, pool, settings


def pools_draft(pools: object, service: object) -> PoolsDraft:
    """Reads what can be read of the sections `pools` and `boot_service`."""
    raw: Mapping[str, Any] = pools if isinstance(pools, Mapping) else {}
    found = {name: read(Pool, value) for name, value in raw.items() if isinstance(name, str)}
    return PoolsDraft(
        pools={name: pool for name, pool in found.items() if pool is not None},
        declared=tuple(found),
        service=read(BootService, service) if service is not None else None,
        has_service=service is not None,
    )


def served(draft: Draft) -> Iterator[Problem]:
    """Pools need a boot service; it runs in one place, at an address of that place."""
    netboot = draft.netboot
    if netboot.declared and not netboot.has_service:
        yield Problem(("pools",), "need a boot service", "add `homelab:boot_service:` as in Pulumi.homelab.yaml")
    service = netboot.service
    if service is None:
        return
    if (service.node is None) == (service.folder is None):
        have = "has both node and folder" if service.node else "has neither node nor folder"
        yield Problem(_SERVICE, have, "write one of them")
    if draft.subnet is not None and service.address not in draft.subnet:
        yield Problem((*_SERVICE, "address"), f"{service.address} is outside of the LAN {draft.subnet}", "correct it")
    if service.node is not None:
        yield from _node(draft, service, service.node)


def _node(draft: Draft, service: BootService, name: str) -> Iterator[Problem]:
    known = {node.name: node for node in draft.nodes if not node.disabled}
    node = known.get(name)
    if node is None:
        meant = closest(name, known)
        fix = f"did you mean {meant}?" if meant else "write the name of an enabled node"
        yield Problem((*_SERVICE, "node"), f"'{name}' is not an enabled node", fix)
    elif node.address is not None and node.address != service.address:
        yield Problem((*_SERVICE, "address"), f"is not the address of {name}", f"write {node.address}")


def dhcp(draft: Draft) -> Iterator[Problem]:
    """In mode full it needs a range of its own and a way out; in mode proxy the router has both."""
    service = draft.netboot.service
    if service is None:
        return
    where: Where = (*_SERVICE, "range")
    if service.mode is Mode.PROXY:
        if service.range is not None:
            yield Problem(where, "is given out in mode full only", "remove it, or set mode to full")
        return
    if draft.gateway is None:
        fix = "write the router's address there"
        yield Problem(("cluster", "network", "gateway"), "is missing, and the boot service gives it to machines", fix)
    if draft.dhcp is not None:
        fix = "turn the router's DHCP server off and remove this, or set mode to proxy"
        yield Problem(("cluster", "network", "dhcp"), "is the router's, beside a boot service in mode full", fix)
    if service.range is None:
        yield Problem(where, "is missing, and mode full gives out its addresses", "write FIRST-LAST")
        return
    if draft.subnet is not None and not service.range.inside(draft.subnet):
        yield Problem(where, f"{service.range} is outside of the LAN {draft.subnet}", "correct it")
    for address, owner in _fixed(draft).items():
        if address in service.range:
            yield Problem(where, f"holds {address} of {owner}, and would give it to somebody else", "take it out")


def _fixed(draft: Draft) -> dict[IPv4Address, str]:
    """Addresses that are somebody's already."""
    found = {node.address: node.name for node in draft.nodes if node.address is not None}
    found |= {draft.vip: "the VIP"} if draft.vip is not None else {}
    found |= {draft.gateway: "the gateway"} if draft.gateway is not None else {}
    if draft.netboot.service is not None:
        found.setdefault(draft.netboot.service.address, "the boot service")
    return found


def pools(draft: Draft) -> Iterator[Problem]:
    """Each pool has machines, one image, and a cluster that is there."""
    for name, pool in draft.netboot.pools.items():
        where: Where = ("pools", name)
        if not pool.machines and pool.range is None and pool.catch_all is None:
            yield Problem(where, "has no machines", "write machines, a range or catch_all")
        if (pool.image.talos is None) == (pool.image.linux is None):
            have = "has both talos and linux" if pool.image.talos else "has neither talos nor linux"
            yield Problem((*where, "image"), have, "write one of them")
        yield from _cluster(draft, where, pool)
        if pool.image.talos is not None and pool.install is None:
            yield Problem((*where, "install"), "is missing, and Talos installs itself", "write for example /dev/sda")
        if pool.image.talos is None and pool.install is not None:
            yield Problem((*where, "install"), "is for Talos; a plain Linux runs in RAM", "remove it")
        yield from _files(draft, where, pool)
        yield from _range(draft, where, pool)
    yield from _catch_alls(draft)


def _cluster(draft: Draft, where: Where, pool: Pool) -> Iterator[Problem]:
    """The Talos cluster takes every image, tenants and clusters of kubeadm a plain Linux, k3s none."""
    name, home, further = pool.cluster, draft.cluster_name, draft.further.clusters
    if name is None or home is None or name == home:
        return
    here, others = (*where, "cluster"), [*(tenant.name for tenant in draft.tenants), *further]
    if name not in others:
        meant = closest(name, [home, *others])
        fix = f"did you mean {meant}?" if meant else f"write {', '.join([home, *others])}"
        yield Problem(here, f"'{name}' is not a cluster", fix)
    elif name in further and "k3s" in further[name].made_of:
        yield Problem(here, f"{name} is of k3s, which has agents of its own", "write its machines under hosts")
    elif pool.image.talos is not None:
        fix = f"write {home}, or boot a plain Linux (image.linux)"
        yield Problem(here, f"is {name}, and Talos joins the Talos cluster only", fix)


def _files(draft: Draft, where: Where, pool: Pool) -> Iterator[Problem]:
    service, linux = draft.netboot.service, pool.image.linux
    if service is None or service.node is None or linux is None:
        return
    for key in ("kernel", "initramfs"):
        if "://" not in getattr(linux, key):
            fix = "write a URL that the node reaches"
            yield Problem((*where, "image", "linux", key), "is a file here, and the boot service runs on a node", fix)


def _range(draft: Draft, where: Where, pool: Pool) -> Iterator[Problem]:
    if pool.range is None:
        return
    here: Where = (*where, "range")
    count = int(pool.range.last) - int(pool.range.first) + 1
    if count > MAX_RANGE:
        yield Problem(here, f"has {count} addresses", f"take {MAX_RANGE} at most")
    if draft.subnet is not None and not pool.range.inside(draft.subnet):
        yield Problem(here, f"{pool.range} is outside of the LAN {draft.subnet}", "correct it")
    for address, owner in _fixed(draft).items():
        if address in pool.range:
            yield Problem(here, f"holds {address} of {owner}", "take it out")
    for name, other in draft.netboot.pools.items():
        if other is pool:
            return
        if other.range is not None and other.range.overlaps(pool.range):
            yield Problem(here, f"overlaps {other.range} of {name}", "give each pool addresses of its own")


def _catch_alls(draft: Draft) -> Iterator[Problem]:
    found = [name for name, pool in draft.netboot.pools.items() if pool.catch_all is not None]
    for name in found[1:]:
        yield Problem(("pools", name, "catch_all"), f"is there twice: {found[0]} has it too", "keep one of them")


def machines(draft: Draft) -> Iterator[Problem]:
    """No two have one name, card, UUID or address; nodes and hosts included."""
    seen: dict[tuple[str, object], str] = {}
    others: list[DraftNode | DraftHost] = [*draft.nodes, *draft.further.hosts]
    for node in others:
        seen |= {("mac", node.mac): node.name, ("address", node.address): node.name, ("name", node.name): node.name}
    fixes = {"mac": "read each machine's own", "uuid": "read each machine's own", "address": "take a free one"}
    for where, name, _, machine in draft.netboot.machines:
        if ("name", name) in seen:
            yield Problem(where, "is also the name of another machine, node or host", "rename one of them")
        seen[("name", name)] = name
        for key, fix in fixes.items():
            value = getattr(machine, key)
            first = seen.setdefault((key, value), name) if value is not None else name
            if first != name:
                yield Problem((*where, key), f"is also that of {first}", fix)
        if machine.address is not None and draft.subnet is not None and machine.address not in draft.subnet:
            fault = f"{machine.address} is outside of the LAN {draft.subnet}"
            yield Problem((*where, "address"), fault, "correct it")


def tags(draft: Draft) -> Iterator[Problem]:
    """A machine's tags are its pool's, and DHCP options need mode full."""
    for where, _, pool, machine in draft.netboot.machines:
        for i, tag in enumerate(machine.tags):
            if tag not in pool.tags:
                meant = closest(tag, pool.tags)
                fix = f"did you mean {meant}?" if meant else "add it under the pool's tags"
                yield Problem((*where, "tags", i), f"'{tag}' is not a tag of its pool", fix)
    service = draft.netboot.service
    if service is None or service.mode is Mode.FULL:
        return
    for name, pool in draft.netboot.pools.items():
        places: list[tuple[Where, Any]] = [(("pools", name), pool)]
        places += [(("pools", name, "tags", tag), settings) for tag, settings in pool.tags.items()]
        for where, place in places:
            if place.dhcp_options:
                fault = "are the router's to give in mode proxy"
                yield Problem((*where, "dhcp_options"), fault, "remove them, or set boot_service.mode to full")


def power(draft: Draft) -> Iterator[Problem]:
    """One way to switch a machine, each BMC for itself, and a fingerprint only where there is a certificate."""
    seen: dict[tuple[str, str | None], str] = {}
    for where, name, _, machine in draft.netboot.machines:
        if machine.power is None:
            continue
        here: Where = (*where, "power")
        redfish = machine.power.redfish
        if (redfish is None) == (machine.power.wake_on_lan is None):
            have = "has both redfish and wake_on_lan" if redfish else "has neither redfish nor wake_on_lan"
            yield Problem(here, have, "write one of them")
        if redfish is None:
            continue
        first = seen.setdefault((redfish.url, redfish.system), name)
        if first != name:
            fix = "write each machine's own, or `system`"
            yield Problem((*here, "redfish", "address"), f"is also the BMC of {first}", fix)
        if redfish.url.startswith("http://"):
            fix = "write https://, as the password would be read by everybody"
            yield Problem((*here, "redfish", "address"), "is plain http", fix)
        if redfish.boot.value == "http" and draft.netboot.service and draft.netboot.service.mode is Mode.PROXY:
            fix = "write pxe, or set boot_service.mode to full"
            yield Problem((*here, "redfish", "boot"), "http is answered in mode full only", fix)


def open_doors(draft: Draft) -> Iterator[Problem]:
    """A warning: with Talos, whatever boots into an automatic catch-all loses its disk."""
    for name, pool in draft.netboot.pools.items():
        automatic = pool.catch_all is not None and pool.catch_all.approval is Approval.AUTOMATIC
        if automatic and pool.image.talos is not None:
            message = f"lets every machine that boots from the network join, and Talos takes its {pool.install}"
            yield Problem(("pools", name, "catch_all", "approval"), message, "set it to manual when all have joined")


def names(draft: Draft) -> Iterator[Problem]:
    """What is taken out by its name (`**::box1`, `**::box1-*`) must hit nothing else."""
    machines = {name: "a machine" for _, name, _, _ in draft.netboot.machines}
    nodes = {node.name: "a node" for node in draft.nodes} | {host.name: "a host" for host in draft.further.hosts}
    taken = dict.fromkeys(draft.boards, "a board") | dict.fromkeys(PARTS, "a part of the platform")
    taken |= dict.fromkeys(draft.platform.applications, "an application")
    taken |= dict.fromkeys((tenant.name for tenant in draft.tenants), "a tenant")
    taken |= dict.fromkeys(draft.further.clusters, "a cluster")
    taken |= {"cluster": "the cluster", "platform": "the platform", "boot-service": "the boot service"}
    taken |= {draft.cluster_name: "the cluster"} if draft.cluster_name is not None else {}
    places = [(where, name, taken) for where, name, _, _ in draft.netboot.machines]
    places += [(("pools", name), name, taken | nodes | machines) for name in draft.netboot.declared]
    for where, name, others in places:
        if name in others:
            yield Problem(where, f"has the name of {others[name]}", "rename it")
        for part in (name[:i] for i, c in enumerate(name) if c == "-"):
            if part in taken | nodes | machines:
                fix = f"rename {part}, for example to {part}-0"
                yield Problem(where, f"would be taken along when {part} is destroyed by name", fix)


CHECKS = (served, dhcp, pools, machines, names, tags, power)
"""All checks of this file, in the order in which problems are found."""
