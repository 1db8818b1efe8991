"""The pods' network of a kubeadm cluster: the platform's flannel or Cilium, without what only Talos needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pulumi
import pulumi_kubernetes as kubernetes

from components import flannel
from components.part import Part, Site, requests
from providers.charts import Library
from providers.kubeadm.resources import Cluster
from providers.talos.resources import Cluster as TalosCluster
from settings import FurtherCluster, Settings
from settings.cni import Cni

CHARTS = Path(".homelab") / "charts"
LOCK = Path("charts.lock.yaml")


def network(cluster: FurtherCluster, lab: Settings, whole: Cluster) -> Part:
    """What the cluster's `cni` asks for."""
    provider = kubernetes.Provider(
        f"{cluster.name}-kubernetes",
        kubeconfig=whole.kubeconfig,
        cluster_identifier=f"homelab-{cluster.name}",
        enable_server_side_apply=True,
        enable_config_map_mutable=True,
        opts=pulumi.ResourceOptions(deleted_with=whole),
    )
    mirror = lab.platform.charts.mirror
    charts = Library(CHARTS, None if mirror else LOCK, mirror)
    # A part asks the cluster for its kubeconfig and goes with it, whoever made it.
    site = Site(lab, cast("TalosCluster", whole), provider, charts)
    return CiliumOfHosts(site, cluster) if cluster.cni.is_cilium else FlannelOfHosts(site, cluster)


class FlannelOfHosts(Part):
    """Flannel, by VXLAN or by routes; kube-proxy leads it to the API."""

    def __init__(self, site: Site, cluster: FurtherCluster) -> None:
        super().__init__(f"{cluster.name}-flannel", site)
        backend = "host-gw" if cluster.cni is Cni.FLANNEL_HOST_GW else "vxlan"
        flannel.install(self, str(cluster.pod_subnet), backend, None, _interface(cluster))
        self.register_outputs({})


class CiliumOfHosts(Part):
    """Cilium. It must not wait for the nodes: they wait for it."""

    def __init__(self, site: Site, cluster: FurtherCluster) -> None:
        super().__init__(f"{cluster.name}-cilium", site)
        hosts = len(site.lab.hosts_of(cluster.name))
        self.chart("cilium", "kube-system", values(cluster, hosts), skip_await=True)
        self.register_outputs({})


def values(cluster: FurtherCluster, hosts: int) -> dict[str, Any]:
    """Cilium's values. Without kube-proxy it has to be told where the API is."""
    endpoint = cluster.endpoint
    alone = cluster.cni.replaces_kube_proxy
    return {
        "ipam": {"mode": "kubernetes"},
        "kubeProxyReplacement": alone,
        **({"k8sServiceHost": endpoint.host, "k8sServicePort": endpoint.port} if alone and endpoint.host else {}),
        "operator": {"replicas": min(2, hosts), "resources": requests("25m", "128Mi")},
        "envoy": {"resources": requests("50m", "64Mi")},
        "hubble": {"enabled": False},  # its certificates would be made anew at every preview
        "initResources": requests("10m", "16Mi"),
        "resources": requests("100m", "256Mi"),
    }


def _interface(cluster: FurtherCluster) -> list[str]:
    """In a segment of its own, flannel's packets go there too, and not where the default route leads."""
    segment = cluster.kubeadm.segment if cluster.kubeadm is not None else None
    return [f"--iface-can-reach={next(segment.hosts())}"] if segment is not None else []
