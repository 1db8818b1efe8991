"""The platform: which parts there are, and what each of them waits for."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pulumi
import pulumi_kubernetes as kubernetes

from components.metallb import MetalLB
from components.part import Part, Site
from providers.charts import Library
from providers.talos.resources import Cluster
from settings import Settings

CHARTS = Path(".homelab") / "charts"
LOCK = Path("charts.lock.yaml")


def platform(lab: Settings, cluster: Cluster, members: Sequence[pulumi.Resource]) -> list[Part]:
    """Build the parts that are on. A part waits for others by `Site.behind`, and depends on none."""
    chosen = lab.platform
    site = Site(lab, cluster, _provider(cluster), _charts(lab), tuple(members))
    metallb = MetalLB(site, chosen.metallb) if chosen.metallb and chosen.on("metallb") else None
    return [part for part in (metallb,) if part is not None]


def _provider(cluster: Cluster) -> kubernetes.Provider:
    """What applies the objects. It is known by the cluster's name: new credentials update it, and replace nothing."""
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
