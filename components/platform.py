"""The platform: which parts there are, and what each of them waits for."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar
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
from settings.cni import Cni
from settings.parts import Switched

CHARTS = Path(".homelab") / "charts"
LOCK = Path("charts.lock.yaml")

S = TypeVar("S", bound=Switched)


def platform(
    lab: Settings,
    cluster: Cluster,
    members: Sequence[pulumi.Resource],
    also: Sequence[Callable[[Site, Sequence[Part]], Part]] = (),
) -> list[Part]:
    """Build the parts that are on, and `also` out of them. A part waits for others by `Site.behind`."""
    bare = Site(lab, cluster, _provider(cluster), _charts(lab))
    network = _network(bare)
    site = replace(bare, ready=tuple(members)).behind(network)
    parts = [part for part in (network, *_services(site)) if part is not None]
    return [*parts, *(make(site, parts) for make in also)]


def _network(site: Site) -> Part | None:
    """The pods' network, where Talos doesn't bring it. Nodes are Ready after it, so it waits for none."""
    cni = site.lab.cluster.cni
    if cni.is_cilium:
        return Cilium(site, site.lab.platform.cilium)
    return Flannel(site) if cni is Cni.FLANNEL_HOST_GW else None


def _services(site: Site) -> Iterator[Part | None]:
    """Addresses, names and storage first; then what people look at."""
    on = site.lab.platform
    yield _made(MetricsServer, site, on.metrics_server)
    metallb = _made(MetalLB, site, on.metallb)
    cert_manager = _made(CertManager, site, on.cert_manager)
    nfs = _made(Nfs, site, on.nfs)
    web = site.behind(metallb, cert_manager)
    traefik = _made(Traefik, web, on.traefik)
    # Its page's password is a kind of object that comes with Traefik.
    longhorn = _made(Longhorn, web.behind(traefik), on.longhorn)
    pages = web.behind(traefik, nfs, longhorn)
    yield from (metallb, cert_manager, nfs, traefik, longhorn)
    yield _made(Dns, pages, on.dns)
    monitoring = _made(Monitoring, pages, on.monitoring)
    yield monitoring
    yield _made(EtcdBackup, pages.behind(monitoring), on.etcd_backup)
    yield _made(Headlamp, pages, on.headlamp)
    yield from _applications(pages)
    if site.lab.tenants:
        from components.tenants import tenants  # noqa: PLC0415  # every import holds a preview up

        yield from tenants(pages)


def _made(part: Callable[[Site, S], Part], site: Site, settings: S | None) -> Part | None:
    """The part, or None where it is off."""
    return part(site, settings) if settings is not None and settings.enabled else None


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
