"""What of a file is well-formed, whatever else is wrong with it: the ground that checks between settings stand on.

A file with a mistyped role still has two nodes in one slot, and its owner wants to hear of both at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from pydantic import StrictInt

from . import kinds, ranges
from .cards_checks import CardDraft, cards_draft
from .cni import Cni, Role
from .hosts_draft import HostsDraft, hosts_draft
from .models import DEFAULT_EXTENSIONS, DEFAULT_PODS, DEFAULT_SERVICES, Module
from .platform_draft import PlatformDraft, platform_draft
from .pools_checks import PoolsDraft, pools_draft
from .problems import Where
from .tenants_draft import DraftTenant, tenants_draft
from .wellformed import read


@dataclass(frozen=True)
class DraftNode:
    """The well-formed values of one node; None is absent or malformed."""

    name: str
    role: Role | None
    address: IPv4Address | None
    mac: str | None
    board: str | None
    slot: int | None
    module: Module | None
    labels: tuple[str, ...]
    disabled: bool

    @property
    def where(self) -> Where:
        """The node's place in the file."""
        return ("nodes", self.name)


@dataclass(frozen=True)
class Draft:
    """The well-formed values of a file that checks between settings need."""

    cluster_name: str | None
    vip: IPv4Address | None
    dns: str | None
    port: int | None
    subnet: IPv4Network | None
    gateway: IPv4Address | None
    dhcp: ranges.AddressRange | None
    nameservers: tuple[IPv4Address | None, ...]
    pods: tuple[IPv4Network | None, ...]
    services: tuple[IPv4Network | None, ...]
    talos: str | None
    kubernetes: str | None
    cni: Cni | None
    schedules: bool
    extensions: tuple[str | None, ...]
    single_image: tuple[str, ...]
    boards: dict[str, str | None]
    pinned: tuple[str, ...]
    nodes: tuple[DraftNode, ...]
    installs: dict[str, Any]
    patches: dict[Where, dict[str, Any]]
    logins: tuple[str, ...]
    platform: PlatformDraft
    cards: tuple[CardDraft, ...]
    netboot: PoolsDraft
    tenants: tuple[DraftTenant, ...]
    further: HostsDraft


def draft(sections: Mapping[str, object]) -> Draft:
    """Reads every value on its own, so that a bad one hides no other."""
    return _Reader(sections).draft()


class _Reader:
    def __init__(self, sections: Mapping[str, object]) -> None:
        self.sections = sections

    def raw(self, *where: str) -> Any:
        found: Any = self.sections
        for part in where:
            found = found.get(part) if isinstance(found, Mapping) else None
        return found

    def one(self, kind: Any, *where: str, default: Any = None) -> Any:
        raw = self.raw(*where)
        return default if raw is None else read(kind, raw)

    def many(self, kind: Any, *where: str, default: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        raw = self.raw(*where)
        if raw is None:
            return default
        return tuple(read(kind, item) for item in raw) if isinstance(raw, list) else ()

    def names(self, *where: str) -> list[str]:
        raw = self.raw(*where)
        return [key for key in raw if isinstance(key, str)] if isinstance(raw, Mapping) else []

    def draft(self) -> Draft:
        network = ("cluster", "network")
        return Draft(
            cluster_name=self.one(kinds.Name, "cluster", "name", default="home"),
            vip=self.one(kinds.Address, "cluster", "endpoint", "vip"),
            dns=self.one(kinds.DnsName, "cluster", "endpoint", "dns"),
            port=self.one(StrictInt, "cluster", "endpoint", "port"),
            subnet=self.one(kinds.Subnet, *network, "subnet"),
            gateway=self.one(kinds.Address, *network, "gateway"),
            dhcp=self.one(ranges.Range, *network, "dhcp"),
            nameservers=self.many(kinds.Address, *network, "nameservers"),
            pods=self.many(kinds.Subnet, "cluster", "pod_subnets", default=(DEFAULT_PODS,)),
            services=self.many(kinds.Subnet, "cluster", "service_subnets", default=(DEFAULT_SERVICES,)),
            talos=self.one(kinds.Version, "cluster", "talos", "version"),
            kubernetes=self.one(kinds.Version, "cluster", "kubernetes", "version"),
            cni=self.one(Cni, "cluster", "cni", default=Cni.FLANNEL),
            schedules=self.raw("cluster", "schedule_on_control_planes") is not False,
            extensions=self.many(kinds.Extension, "cluster", "talos", "extensions", default=DEFAULT_EXTENSIONS),
            single_image=tuple(
                key for key in ("image", "sha256", "installer") if self.raw("cluster", "talos", key) is not None
            ),
            boards={name: self.one(kinds.BoardAddress, "boards", name, "address") for name in self.names("boards")},
            pinned=tuple(name for name in self.names("boards") if self.raw("boards", name, "fingerprint") is not None),
            nodes=tuple(self.node(name) for name in self.names("nodes")),
            installs={name: self.raw("nodes", name, "install") for name in self.names("nodes")},
            patches=self.patches(),
            logins=tuple(self.names("cluster", "registries", "credentials")),
            platform=platform_draft(self.raw("platform")),
            cards=cards_draft(self.raw("cards")),
            netboot=pools_draft(self.raw("pools"), self.raw("boot_service")),
            tenants=tenants_draft(self.raw("tenants")),
            further=hosts_draft(self.raw("clusters"), self.raw("hosts")),
        )

    def node(self, name: str) -> DraftNode:
        here = ("nodes", name)
        slot = self.raw(*here, "machine", "slot")
        labels = self.raw(*here, "labels")
        return DraftNode(
            name=name,
            role=self.one(Role, *here, "role"),
            address=self.one(kinds.Address, *here, "address"),
            mac=self.one(kinds.Mac, *here, "mac"),
            board=self.one(kinds.Name, *here, "machine", "board"),
            slot=slot if type(slot) is int else None,
            module=self.one(Module, *here, "module", default=Module.RK1),
            labels=tuple(key for key in labels if isinstance(key, str)) if isinstance(labels, Mapping) else (),
            disabled=self.raw(*here, "disabled") is True,
        )

    def patches(self) -> dict[Where, dict[str, Any]]:
        owners: list[Where] = [("cluster",), *(("nodes", name) for name in self.names("nodes"))]
        found = [
            ((*owner, "patches", i), patch)
            for owner in owners
            for i, patch in enumerate(self.many(kinds.Patch, *map(str, owner), "patches"))
        ]
        return {where: patch for where, patch in found if patch is not None}
