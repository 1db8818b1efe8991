"""What clusters of every kind have in common: who gives pods their network, and what a node does."""

from enum import StrEnum


class Cni(StrEnum):
    """Who gives pods their network."""

    FLANNEL = "flannel"
    FLANNEL_HOST_GW = "flannel-host-gw"
    CILIUM = "cilium"
    CILIUM_KUBE_PROXY_FREE = "cilium-kube-proxy-free"
    NONE = "none"

    @property
    def is_cilium(self) -> bool:
        """Whether the platform installs it."""
        return self in (Cni.CILIUM, Cni.CILIUM_KUBE_PROXY_FREE)

    @property
    def replaces_kube_proxy(self) -> bool:
        """Whether nodes run without kube-proxy."""
        return self is Cni.CILIUM_KUBE_PROXY_FREE

    @property
    def enforces_policies(self) -> bool:
        """Whether a NetworkPolicy means anything. Flannel takes them and does nothing."""
        return self.is_cilium


class Role(StrEnum):
    """What a node does in the cluster."""

    CONTROLPLANE = "controlplane"
    WORKER = "worker"
