"""Every version of the platform in one table. Renovate reads the comments (renovate.json)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ChartSource:
    """A chart repository and the version of the chart that this program was tested with."""

    repo: str
    version: str


CHARTS: dict[str, ChartSource] = {
    # renovate: datasource=helm depName=cert-manager registryUrl=https://charts.jetstack.io
    "cert-manager": ChartSource("https://charts.jetstack.io", "v1.21.1"),
    # renovate: datasource=helm depName=cilium registryUrl=https://helm.cilium.io
    "cilium": ChartSource("https://helm.cilium.io", "1.20.0"),
    # renovate: datasource=helm depName=csi-driver-nfs registryUrl=https://raw.githubusercontent.com/kubernetes-csi/csi-driver-nfs/master/charts
    "csi-driver-nfs": ChartSource(
        "https://raw.githubusercontent.com/kubernetes-csi/csi-driver-nfs/master/charts", "4.13.4"
    ),
    # renovate: datasource=helm depName=headlamp registryUrl=https://kubernetes-sigs.github.io/headlamp/
    "headlamp": ChartSource("https://kubernetes-sigs.github.io/headlamp", "0.45.0"),
    # renovate: datasource=helm depName=kamaji registryUrl=https://clastix.github.io/charts
    "kamaji": ChartSource("https://clastix.github.io/charts", "0.0.0+latest"),
    # renovate: datasource=helm depName=kube-prometheus-stack registryUrl=https://prometheus-community.github.io/helm-charts
    "kube-prometheus-stack": ChartSource("https://prometheus-community.github.io/helm-charts", "88.5.3"),
    # renovate: datasource=helm depName=longhorn registryUrl=https://charts.longhorn.io
    "longhorn": ChartSource("https://charts.longhorn.io", "1.12.1"),
    # renovate: datasource=helm depName=metallb registryUrl=https://metallb.github.io/metallb
    "metallb": ChartSource("https://metallb.github.io/metallb", "0.16.1"),
    # renovate: datasource=helm depName=metrics-server registryUrl=https://kubernetes-sigs.github.io/metrics-server/
    "metrics-server": ChartSource("https://kubernetes-sigs.github.io/metrics-server", "3.13.1"),
    # renovate: datasource=helm depName=traefik registryUrl=https://traefik.github.io/charts
    "traefik": ChartSource("https://traefik.github.io/charts", "41.3.0"),
    # renovate: datasource=docker depName=quay.io/enix/charts/x509-certificate-exporter
    "x509-certificate-exporter": ChartSource("oci://quay.io/enix/charts", "4.2.0"),
}
"""Chart name -> where it comes from."""

IMAGES: dict[str, str] = {
    # renovate: datasource=docker depName=adguard/adguardhome
    "adguard": "docker.io/adguard/adguardhome:v0.107.79",
    # renovate: datasource=docker depName=quay.io/coreos/etcd
    "etcd": "quay.io/coreos/etcd:v3.6.12",
    # renovate: datasource=docker depName=ghcr.io/flannel-io/flannel
    "flannel": "ghcr.io/flannel-io/flannel:v0.28.0",
    # renovate: datasource=docker depName=ghcr.io/flannel-io/flannel-cni-plugin
    "flannel-plugin": "ghcr.io/flannel-io/flannel-cni-plugin:v1.8.0-flannel1",
    # renovate: datasource=docker depName=registry.k8s.io/coredns/coredns
    "coredns": "registry.k8s.io/coredns/coredns:v1.12.1",
    # renovate: datasource=docker depName=jesec/flood
    "flood": "docker.io/jesec/flood:4.16.1",
    # renovate: datasource=docker depName=registry.k8s.io/sig-storage/nfs-provisioner
    "nfs-server": "registry.k8s.io/sig-storage/nfs-provisioner:v4.0.8",
    # renovate: datasource=docker depName=python
    "python": "docker.io/library/python:3.13.5-alpine3.22",
    # renovate: datasource=docker depName=crazymax/rtorrent-rutorrent versioning=loose
    "rtorrent": "docker.io/crazymax/rtorrent-rutorrent:5.3.7-0.16.17-r1",
}
"""Images of the pods that are ours, not a chart's."""

NETBOOT: dict[str, str] = {
    # renovate: datasource=docker depName=busybox
    "http": "docker.io/library/busybox:1.37.0",
    # renovate: datasource=docker depName=quay.io/poseidon/dnsmasq versioning=loose
    "dnsmasq": "quay.io/poseidon/dnsmasq:v0.5.0-52-g43ac44a",
}
"""Images of the boot service's pod, which only a lab with pools runs: dnsmasq with iPXE inside, and an HTTP server."""
