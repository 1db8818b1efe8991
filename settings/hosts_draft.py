"""What of hosts and their clusters is well-formed: each value stands or falls on its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from . import hosts_kinds, kinds
from .clusters import DISTRIBUTIONS, PODS, SERVICES
from .cni import Cni, Role
from .problems import Where
from .wellformed import read


@dataclass(frozen=True)
class DraftHost:
    """The well-formed values of one host; None is absent or malformed."""

    name: str
    cluster: str | None
    role: Role | None
    address: IPv4Address | None
    mac: str | None
    host_key: str | None
    given: frozenset[str]  # keys that stand there, malformed or not
    has_key: bool
    disabled: bool

    @property
    def where(self) -> Where:
        """The host's place in the file."""
        return ("hosts", self.name)


@dataclass(frozen=True)
class DraftCluster:
    """The well-formed values of one cluster."""

    name: str
    made_of: tuple[str, ...]  # its distributions: exactly one, if the file is right
    parts: Mapping[str, Any]  # distribution -> what the file says of it
    vip: IPv4Address | None
    shared: tuple[str, ...]  # of vip and load_balancer, what the file says
    cni: Cni | None
    pods: IPv4Network | None
    services: IPv4Network | None
    has_key: bool
    endpoint: Mapping[str, Any]  # what the file says of it
    rancher: Mapping[str, Any] | None  # what the file says of it

    @property
    def where(self) -> Where:
        """The cluster's place in the file."""
        return ("clusters", self.name)


@dataclass(frozen=True)
class HostsDraft:
    """Everything of hosts and their clusters that checks between settings need."""

    clusters: dict[str, DraftCluster]
    hosts: tuple[DraftHost, ...]

    def control_planes(self, cluster: str) -> list[DraftHost]:
        """The hosts that shall run a cluster's API."""
        return [h for h in self.hosts if h.cluster == cluster and h.role is Role.CONTROLPLANE and not h.disabled]


def hosts_draft(clusters: object, hosts: object) -> HostsDraft:
    """Reads every value on its own, so that a bad one hides no other."""
    return HostsDraft(
        {name: _cluster(name, _map(raw)) for name, raw in _map(clusters).items()},
        tuple(_host(name, _map(raw)) for name, raw in _map(hosts).items()),
    )


def _map(raw: object) -> dict[str, Any]:
    return {key: value for key, value in raw.items() if isinstance(key, str)} if isinstance(raw, Mapping) else {}


def _one(kind: Any, raw: Mapping[str, Any], key: str, default: Any = None) -> Any:
    return default if raw.get(key) is None else read(kind, raw[key])


def _host(name: str, raw: dict[str, Any]) -> DraftHost:
    ssh = _map(raw.get("ssh"))
    return DraftHost(
        name=name,
        cluster=_one(kinds.Name, raw, "cluster"),
        role=_one(Role, raw, "role"),
        address=_one(kinds.Address, raw, "address"),
        mac=_one(kinds.Mac, raw, "mac"),
        host_key=_one(hosts_kinds.HostKey, ssh, "host_key"),
        given=frozenset(key for key, value in raw.items() if value is not None),
        has_key=ssh.get("key") is not None,
        disabled=raw.get("disabled") is True,
    )


def _cluster(name: str, raw: dict[str, Any]) -> DraftCluster:
    endpoint = _map(raw.get("endpoint"))
    return DraftCluster(
        name=name,
        made_of=tuple(key for key in DISTRIBUTIONS if raw.get(key) is not None),
        parts={key: raw.get(key) for key in DISTRIBUTIONS},
        vip=_one(kinds.Address, endpoint, "vip"),
        shared=tuple(key for key in ("vip", "load_balancer") if endpoint.get(key) is not None),
        cni=_one(Cni, raw, "cni", Cni.FLANNEL),
        pods=_one(kinds.Subnet, raw, "pod_subnet", PODS),
        services=_one(kinds.Subnet, raw, "service_subnet", SERVICES),
        has_key=_map(raw.get("ssh")).get("key") is not None,
        endpoint=endpoint,
        rancher=None if raw.get("rancher") is None else _map(raw["rancher"]),
    )
