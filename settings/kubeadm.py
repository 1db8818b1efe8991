"""kubeadm on Linux hosts, and what is in front of its control planes."""

from pydantic import StrictBool, StrictInt

from . import kinds, platform_kinds
from .part import Part, key

KUBE_VIP = "ghcr.io/kube-vip/kube-vip:v1.2.3"
PACKAGES = "https://pkgs.k8s.io/core:/stable:"


class Balancer(Part):
    """HAProxy in front of the control planes, and keepalived, which moves the VIP to a host whose HAProxy lives."""

    hosts: tuple[kinds.Name, ...] = key(
        "Hosts that they run on, by their names under hosts: control planes, or others; one that shall be nothing else "
        "is `disabled` there.",
        ["lb1", "lb2"],
    )
    router: StrictInt | None = key(
        "VRRP's number of the VIP; no other VIP of the LAN has it.",
        default=None,
        ge=1,
        le=255,
        unit="1 to 255",
        derived="the VIP's last number",
    )


class KubeVip(Part):
    """kube-vip on the control planes themselves, in place of a balancer."""

    image: platform_kinds.Image = key("Its image.", default=KUBE_VIP, unit="registry/name:tag")


class Kubeadm(Part):
    """kubeadm: one, three or five control planes with etcd, and workers."""

    version: kinds.Version = key(
        "Kubernetes version of all hosts. It has no default: a newer program never changes a cluster by itself.",
        "v1.36.1",
    )
    balancer: Balancer | None = key("Who holds the VIP and spreads requests: HAProxy and keepalived.", default=None)
    kube_vip: KubeVip | None = key("Who holds the VIP: kube-vip on the control planes.", default=None)
    schedule_on_control_planes: StrictBool = key("Whether control planes run ordinary pods too.", default=False)
    segment: kinds.Subnet | None = key(
        "A network of the cluster's own that every host has a second address in; Kubernetes, etcd and pods talk there. "
        "Absent: they talk where SSH does.",
        default=None,
    )
    addresses: dict[kinds.Name, kinds.Address] = key(
        "Host -> its address in the segment; balancers' too, where the VIP is in it.", default_factory=dict
    )
    packages: kinds.Url = key("Where hosts get kubeadm, kubelet and kubectl from.", default=PACKAGES)
