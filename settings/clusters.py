"""Clusters beside the one of Talos. Each has exactly one distribution, which is a key with a part of its own.

A new distribution is a model in a file of its own, one field of `FurtherCluster`, and its name in `DISTRIBUTIONS`.
"""

from ipaddress import IPv4Network
from typing import Any

from pydantic import StrictBool, StrictInt
from pydantic.json_schema import SkipJsonSchema

from . import hosts_kinds, kinds
from .cni import Cni
from .kubeadm import Kubeadm
from .part import Part, key
from .rancher import Rancher

DISTRIBUTIONS = ("k3s", "kubeadm")
"""The keys of a cluster of which it has exactly one."""

PODS = IPv4Network("10.42.0.0/16")
SERVICES = IPv4Network("10.43.0.0/16")
K3S_RELEASES = "https://github.com/k3s-io/k3s/releases/download"
K3S_SCRIPTS = "https://raw.githubusercontent.com/k3s-io/k3s"


class ApiAddress(Part):
    """Where a cluster's API answers: a virtual address, or a load balancer that is there already."""

    vip: kinds.Address | None = key(
        "Virtual address that the control planes share. A free address of the LAN, outside the DHCP range.",
        default=None,
    )
    load_balancer: kinds.Host | None = key(
        "A load balancer of the owner's that sends TCP connections on to all control planes, in place of a vip.",
        default=None,
    )
    dns: kinds.DnsName | None = key("Name of the endpoint, if the house's DNS has one.", default=None)
    port: StrictInt = key("Port of the Kubernetes API.", default=6443, ge=1, le=65535, unit="TCP port")

    @property
    def host(self) -> str | None:
        """The name if there is one, else the address; None where the only control plane's own address will do."""
        shared = str(self.vip) if self.vip is not None else self.load_balancer
        return self.dns or shared

    @property
    def server_port(self) -> int:
        """Where each control plane's own API answers; a load balancer may offer it elsewhere."""
        return 6443 if self.load_balancer else self.port

    def url(self, only: str) -> str:
        """Where nodes register and people ask: the shared address, or that of the only control plane."""
        return f"https://{self.host or only}:{self.port}"


class Login(Part):
    """How hosts of a cluster are logged into, where they don't say otherwise."""

    user: hosts_kinds.User = key("User; anybody but root needs `sudo` without a password.", default="root")
    port: StrictInt = key("Port of SSH.", default=22, ge=1, le=65535, unit="TCP port")
    key: kinds.Secret | None = key(
        "Private key without a passphrase (OpenSSH's format), as a Pulumi secret.", default=None, unit="secret"
    )


class K3s(Part):
    """k3s: one server with SQLite, or three and more with etcd."""

    version: hosts_kinds.K3sVersion = key(
        "Version of all hosts; another one is rolled out by `up`, host by host, minor by minor. It has no default, so "
        "that a newer program never upgrades a cluster by itself.",
        "v1.36.3+k3s1",
    )
    etcd: StrictBool | None = key(
        "Whether even a single server keeps its data in etcd, ready for more servers. Absent: with one, SQLite.",
        default=None,
        derived="whether there is more than one server",
    )
    disable: tuple[hosts_kinds.K3sPart, ...] = key("What of k3s' own parts is left out.", default=())
    secrets_encryption: StrictBool = key("Whether secrets are encrypted where they are stored.", default=True)
    releases: kinds.Url = key("Where hosts download k3s and its checksums from.", default=K3S_RELEASES)
    scripts: kinds.Url = key("Where hosts download that version's install script from.", default=K3S_SCRIPTS)


class FurtherCluster(Part):
    """One cluster that is not the one of Talos."""

    name: SkipJsonSchema[kinds.Name]
    endpoint: ApiAddress = key(
        "Where its API answers. Without vip and load_balancer: on its only control plane.", default_factory=ApiAddress
    )
    cni: Cni = key(
        "Who gives pods their network: flannel, flannel-host-gw (all hosts in one LAN), or none, for one of the "
        "owner's own; with kubeadm also the two cilium.",
        default=Cni.FLANNEL,
    )
    pod_subnet: kinds.Subnet = key("Where pods get addresses.", default=PODS)
    service_subnet: kinds.Subnet = key("Where services get addresses.", default=SERVICES)
    ssh: Login = key("How its hosts are logged into, where they don't say otherwise.", default_factory=Login)
    k3s: K3s | None = key("k3s on its hosts.", default=None)
    kubeadm: Kubeadm | None = key("kubeadm on its hosts.", default=None)
    rancher: Rancher | None = key("The Rancher server that it is registered with.", default=None)

    @property
    def distribution(self) -> str:
        """The one of `DISTRIBUTIONS` that it has."""
        return next(name for name in DISTRIBUTIONS if getattr(self, name) is not None)

    @property
    def made_of(self) -> Any:
        """The part of that distribution."""
        return getattr(self, self.distribution)
