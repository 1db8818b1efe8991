"""A kubeadm cluster on Linux hosts, what balances before it, and nothing of the whole that depends on one of them."""

from __future__ import annotations

from typing import Any

import pulumi

from components.after import after
from components.host import Host, login
from providers.balancer.resources import Balancer
from providers.kubeadm.resources import Cluster, Machine, Member
from settings import FurtherCluster, Settings
from settings.cni import Cni
from settings.hosts import Host as HostSettings
from settings.kubeadm import Kubeadm as KubeadmSettings

API_PORT = 6443


def build(cluster: FurtherCluster, lab: Settings) -> pulumi.Output[str]:
    """All of a cluster; gives its kubeconfig."""
    return Kubeadm(cluster, lab).kubeconfig


class Kubeadm(pulumi.ComponentResource):
    """The cluster as one thing. There is no first control plane: who is initialised is read from all of them."""

    def __init__(self, cluster: FurtherCluster, lab: Settings) -> None:
        super().__init__("homelab:Kubeadm", cluster.name)
        self._settings, self._lab = cluster, lab
        members = lab.hosts_of(cluster.name)
        self._planes = {
            host.name: {**login(host, lab), "node": self._node(host)} for host in members if host.is_control_plane
        }
        balancers = self._balancers()
        hosts = [Host(host, lab, self._child()) for host in members]
        machines = {host.settings.name: self._machine(host) for host in hosts}
        first = [*balancers, *(machines[name] for name in self._planes)]
        props = {"cluster": self._cluster, "control_planes": after(self._planes, *first)}
        whole = Cluster(f"{cluster.name}-cluster", props, self._child())
        joined = [self._member(host, machines[host.settings.name], whole) for host in hosts]
        self._network(whole)
        self._register(whole, joined)
        self.kubeconfig = whole.kubeconfig
        self.register_outputs({})

    @property
    def _made_of(self) -> KubeadmSettings:
        found = self._settings.kubeadm
        if found is None:
            raise ValueError(f"{self._settings.name} is no kubeadm cluster")
        return found

    @property
    def _cluster(self) -> dict[str, Any]:
        """What all hosts have in common, as `providers.kubeadm.wish.Cluster` reads it."""
        cluster, made_of, endpoint = self._settings, self._made_of, self._settings.endpoint
        return {
            "name": cluster.name,
            "version": made_of.version,
            "host": endpoint.host or next(plane["node"]["node_ip"] for plane in self._planes.values()),
            "port": endpoint.port,
            "vip": str(endpoint.vip or ""),
            "pod_subnet": str(cluster.pod_subnet),
            "service_subnet": str(cluster.service_subnet),
            "kube_proxy": not cluster.cni.replaces_kube_proxy,
            "taint": not made_of.schedule_on_control_planes,
            "kube_vip": made_of.kube_vip.image if made_of.kube_vip is not None else "",
        }

    def _node(self, host: HostSettings) -> dict[str, Any]:
        """The host as a member, as `providers.kubeadm.wish.Node` reads it."""
        return {
            "name": host.name,
            "address": str(host.address or ""),
            "role": host.role.value,
            "node_ip": self._inside(host),
            "labels": host.labels,
            "taints": {key: str(taint) for key, taint in host.taints.items()},
        }

    def _inside(self, host: HostSettings) -> str:
        """A host's address in the cluster's segment, or its only one; "" where only its MAC is known."""
        return str(self._made_of.addresses.get(host.name) or host.address or "")

    def _child(self) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(parent=self)

    def _machine(self, host: Host) -> Machine:
        props = {
            **host.login,
            "node": self._node(host.settings),
            "cluster": self._cluster,
            "packages": self._made_of.packages,
            "generation": host.settings.generation,
        }
        return Machine(f"{host.settings.name}-machine", props, host.child(host.prepared))

    def _member(self, host: Host, machine: Machine, whole: Cluster) -> Member:
        props = {
            **host.login,
            "node": self._node(host.settings),
            "cluster": self._cluster,
            "control_planes": self._planes,
            "kubeconfig": whole.kubeconfig,
            "ready": self._settings.cni is not Cni.NONE,
            "generation": host.settings.generation,
        }
        return Member(f"{host.settings.name}-member", props, host.child(machine, deleted_with=whole))

    def _balancers(self) -> list[Balancer]:
        """HAProxy and keepalived on the chosen hosts. The order of the settings decides who holds the VIP at first."""
        wanted = self._made_of.balancer
        if wanted is None:
            return []
        return [self._balancer(self._lab.hosts[name], i, wanted.hosts) for i, name in enumerate(wanted.hosts)]

    def _balancer(self, host: HostSettings, place: int, names: tuple[str, ...]) -> Balancer:
        cluster, endpoint, wanted = self._settings, self._settings.endpoint, self._made_of.balancer
        own = wanted.router if wanted is not None else None
        at = {name: self._shared_network(self._lab.hosts[name]) for name in names}
        backends = {name: f"{plane['node']['node_ip']}:{API_PORT}" for name, plane in self._planes.items()}
        props = {
            **login(host, self._lab),
            "front": {"name": cluster.name, "bind": f"*:{endpoint.port}", "backends": backends},
            "sharing": {
                "vip": str(endpoint.vip),
                "router": own if own is not None else int(str(endpoint.vip).rpartition(".")[2]),
                "address": at[host.name],
                "peers": [address for name, address in at.items() if name != host.name],
                "priority": 200 - 10 * place,
            },
        }
        return Balancer(f"{host.name}-balancer", props, self._child())

    def _shared_network(self, host: HostSettings) -> str:
        """A balancer's address in the network that the VIP is in."""
        made_of, vip = self._made_of, self._settings.endpoint.vip
        inside = made_of.segment is not None and vip is not None and vip in made_of.segment
        return self._inside(host) if inside else str(host.address or "")

    def _network(self, whole: Cluster) -> None:
        """The pods' network, unless the owner brings it."""
        if self._settings.cni is not Cni.NONE:
            from components.kubeadm_network import network  # noqa: PLC0415  # the Kubernetes SDK takes long to import

            network(self._settings, self._lab, whole)

    def _register(self, whole: Cluster, joined: list[Member]) -> None:
        """Rancher's agent needs nodes to run on."""
        if self._settings.rancher is not None:
            from components.rancher import register  # noqa: PLC0415  # most clusters have none

            register(self._settings, whole, whole.kubeconfig, joined, self._child())
