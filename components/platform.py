"""The platform: which parts there are, and what each of them waits for."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pulumi
import pulumi_kubernetes as kubernetes

from components.application import Application
from components.cert_manager import CertManager
from components.cilium import Cilium
from components.dns import Dns
from components.etcd_backup import EtcdBackup
from components.flannel import Flannel
from components.headlamp import Headlamp
from components.longhorn import Longhorn
from components.metallb import MetalLB
from components.metrics_server import MetricsServer
from components.monitoring import Monitoring
from components.nfs import Nfs
from components.part import Part, Site
from components.torrent import Torrent
from components.traefik import Traefik
from providers.charts import Library
from providers.talos.resources import Cluster
from settings import Settings
from settings.models import Cni

CHARTS = Path(".homelab") / "charts"
LOCK = Path("charts.lock.yaml")


def platform(lab: Settings, cluster: Cluster, members: Sequence[pulumi.Resource]) -> list[Part]:
    """Build the parts that are on. A part waits for others by `Site.behind`, and depends on none."""
    bare = Site(lab, cluster, _provider(cluster), _charts(lab))
    network = _network(bare)
    site = replace(bare, ready=tuple(members)).behind(network)
    return [part for part in (network, *_services(site)) if part is not None]


def _network(site: Site) -> Part | None:
    """The pods' network, where Talos doesn't bring it. Nodes are Ready after it, so it waits for none."""
    cni = site.lab.cluster.cni
    if cni.is_cilium:
        return Cilium(site, site.lab.platform.cilium)
    return Flannel(site) if cni is Cni.FLANNEL_HOST_GW else None


def _services(site: Site) -> Iterator[Part | None]:
    """Addresses, names and storage first; then what people look at."""
    on = site.lab.platform
    yield MetricsServer(site, on.metrics_server) if on.metrics_server and on.metrics_server.enabled else None
    metallb = MetalLB(site, on.metallb) if on.metallb and on.metallb.enabled else None
    cert_manager = CertManager(site, on.cert_manager) if on.cert_manager and on.cert_manager.enabled else None
    nfs = Nfs(site, on.nfs) if on.nfs and on.nfs.enabled else None
    web = site.behind(metallb, cert_manager)
    traefik = Traefik(web, on.traefik) if on.traefik and on.traefik.enabled else None
    # Its page's password is a kind of object that comes with Traefik.
    longhorn = Longhorn(web.behind(traefik), on.longhorn) if on.longhorn and on.longhorn.enabled else None
    pages = web.behind(traefik, nfs, longhorn)
    yield from (metallb, cert_manager, nfs, traefik, longhorn)
    yield Dns(pages, on.dns) if on.dns and on.dns.enabled else None
    monitoring = Monitoring(pages, on.monitoring) if on.monitoring and on.monitoring.enabled else None
    yield monitoring
    watched = pages.behind(monitoring)
    yield EtcdBackup(watched, on.etcd_backup) if on.etcd_backup and on.etcd_backup.enabled else None
    yield Headlamp(pages, on.headlamp) if on.headlamp and on.headlamp.enabled else None
    yield from _applications(pages)


def _applications(site: Site) -> Iterator[Part]:
    for name, settings in site.lab.platform.applications.items():
        if settings.enabled:
            yield Torrent(site, name, settings) if settings.torrent is not None else Application(site, name, settings)


def _provider(cluster: Cluster) -> kubernetes.Provider:
    """What applies the objects. New credentials update it: a provider that is replaced replaces all that it made."""
    return kubernetes.Provider(
        "kubernetes",
        kubeconfig=cluster.kubeconfig,
        cluster_identifier="homelab",
        enable_server_side_apply=True,
        enable_config_map_mutable=True,
        enable_secret_mutable=True,
        opts=pulumi.ResourceOptions(deleted_with=cluster),
    )


def _charts(lab: Settings) -> Library:
    mirror = lab.platform.charts.mirror
    return Library(CHARTS, None if mirror and _is_this_machine(mirror) else LOCK, mirror)


def _is_this_machine(url: str) -> bool:
    """Whether a mirror is the twin's, which makes its charts itself: a digest of yesterday means nothing there."""
    try:
        return ipaddress.ip_address(urlsplit(url).hostname or "").is_loopback
    except ValueError:
        return False
