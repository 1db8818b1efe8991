"""A k3s cluster on Linux hosts: servers, agents behind them, and nothing of the whole that depends on one of them."""

from __future__ import annotations

from typing import Any

import pulumi

from components.after import after
from components.host import Host, login
from providers.k3s.resources import Cluster, Member, Node, Token
from settings import FurtherCluster, Settings
from settings.clusters import K3s as K3sSettings


def build(cluster: FurtherCluster, lab: Settings) -> pulumi.Output[str]:
    """All of a cluster; gives its kubeconfig."""
    return K3s(cluster, lab).kubeconfig


class K3s(pulumi.ComponentResource):
    """The cluster as one thing. There is no first server: who begins is read from all of them."""

    def __init__(self, cluster: FurtherCluster, lab: Settings) -> None:
        super().__init__("homelab:K3s", cluster.name)
        self._settings, self._lab = cluster, lab
        theirs = lab.hosts_of(cluster.name)
        self._servers = {host.name: login(host, lab) for host in theirs if host.is_control_plane}
        token = Token(f"{cluster.name}-token", {"cluster": cluster.name, "servers": self._servers}, self._child())
        self._token = token.token
        hosts = [Host(host, lab, self._child()) for host in theirs]
        servers = {h.settings.name: self._server(h) for h in hosts if h.settings.is_control_plane}
        agents = {
            h.settings.name: self._agent(h, list(servers.values())) for h in hosts if h.settings.name not in servers
        }
        props = {
            "cluster": cluster.name,
            "endpoint": self._url,
            "servers": after(self._servers, *servers.values()),
        }
        whole = Cluster(f"{cluster.name}-cluster", props, self._child())
        members = [self._join(host, {**servers, **agents}[host.settings.name], whole) for host in hosts]
        self.kubeconfig = whole.kubeconfig
        if cluster.rancher is not None:
            from components.rancher import register  # noqa: PLC0415  # most clusters have none

            register(cluster, whole, whole.kubeconfig, members, self._child())
        self.register_outputs({})

    @property
    def _made_of(self) -> K3sSettings:
        found = self._settings.k3s
        if found is None:
            raise ValueError(f"{self._settings.name} is no k3s cluster")
        return found

    @property
    def _url(self) -> str:
        return self._settings.endpoint.url(next(iter(self._servers.values()))["address"])

    def _child(self) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(parent=self)

    def _server(self, host: Host) -> Node:
        props = {**self._node(host), "registration": self._url}
        return Node(f"{host.settings.name}-k3s", props, host.child(host.prepared))

    def _agent(self, host: Host, servers: list[Node]) -> Node:
        props = {**self._node(host), "registration": after(self._url, *servers)}
        return Node(f"{host.settings.name}-k3s", props, host.child(host.prepared))

    def _join(self, host: Host, node: Node, cluster: Cluster) -> Member:
        props = {
            "host": host.settings.name,
            "cluster": self._settings.name,
            "kubeconfig": cluster.kubeconfig,
            "labels": host.settings.labels,
            "api_port": self._settings.endpoint.server_port,
        }
        return Member(f"{host.settings.name}-member", props, host.child(node, deleted_with=cluster))

    def _node(self, host: Host) -> dict[str, Any]:
        cluster, made_of, endpoint = self._settings, self._made_of, self._settings.endpoint
        shared = (endpoint.vip, endpoint.load_balancer, endpoint.dns)
        return {
            **host.login,
            "cluster": cluster.name,
            "role": host.settings.role.value,
            "version": made_of.version,
            "releases": made_of.releases,
            "scripts": made_of.scripts,
            "token": self._token,
            "servers": self._servers,
            "names": [str(name) for name in shared if name is not None],
            "vip": str(endpoint.vip or ""),
            "api_port": self._settings.endpoint.server_port,
            "etcd": len(self._servers) > 1 if made_of.etcd is None else made_of.etcd,
            "cni": cluster.cni.value,
            "pod_subnet": str(cluster.pod_subnet),
            "service_subnet": str(cluster.service_subnet),
            "disable": list(made_of.disable),
            "secrets_encryption": made_of.secrets_encryption,
            "labels": host.settings.labels,
            "taints": {key: str(taint) for key, taint in host.settings.taints.items()},
            "generation": host.settings.generation,
        }
