"""What a lab fetches from the internet: charts, images, disk images. Nothing of Pulumi is needed to know it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from components.images import CHART_IMAGES, TALOS
from components.spec import schematic
from components.versions import CHARTS, IMAGES, NETBOOT, ChartSource
from providers.talos.schematic import image_url, installer
from settings import Settings
from settings.cni import Cni

PART_CHARTS: dict[str, tuple[str, ...]] = {
    "metallb": ("metallb",),
    "metrics-server": ("metrics-server",),
    "cert-manager": ("cert-manager",),
    "traefik": ("traefik",),
    "longhorn": ("longhorn",),
    "nfs": ("csi-driver-nfs",),
    "monitoring": ("kube-prometheus-stack", "x509-certificate-exporter"),
    "headlamp": ("headlamp",),
    "kamaji": ("kamaji",),
}
"""Part -> its charts; the settings' version and values are the first one's."""

CILIUM, KAMAJI = "cilium", "kamaji"
SERVERS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")


@dataclass(frozen=True)
class Needed:
    """What a lab fetches.

    Attributes:
        charts: name -> where it comes from and which version.
        images: whole references, sorted, each once.
        disk_images: URLs of what is flashed; none where the settings name a file.
        notes: what the lists can't know, a sentence each.
    """

    charts: dict[str, ChartSource]
    images: tuple[str, ...]
    disk_images: tuple[str, ...]
    notes: tuple[str, ...]


def needed(lab: Settings, *, everything: bool = False) -> Needed:
    """What this lab fetches; with `everything` also what the parts would that are off."""
    wanted = charts(lab, everything=everything)
    own = IMAGES.values() if everything else ()
    of_charts = (image.name for chart in wanted for image in CHART_IMAGES[chart].images)
    images = {whole(name) for name in (*of_charts, *own, *_own(lab), *_system(lab))}
    return Needed(wanted, tuple(sorted(images)), tuple(sorted(set(_disk_images(lab)))), tuple(_notes(lab, wanted)))


def charts(lab: Settings, *, everything: bool = False) -> dict[str, ChartSource]:
    """The charts of the parts that are on, or all, at the versions that the settings ask for."""
    found = {name for part, names in PART_CHARTS.items() if _is_on(lab, part) for name in names}
    found |= {CILIUM} if lab.cluster.cni.is_cilium else set()
    return {name: _at_version(lab, name) for name in sorted(CHARTS if everything else found)}


def whole(name: str) -> str:
    """An image's name with the registry that is meant where none is written."""
    first, slash, _ = name.partition("/")
    if not slash:
        return f"docker.io/library/{name}"
    if first == "docker.io":
        rest = name.removeprefix("docker.io/")
        return name if "/" in rest else f"docker.io/library/{rest}"
    return name if "." in first or ":" in first or first == "localhost" else f"docker.io/{name}"


def _at_version(lab: Settings, chart: str) -> ChartSource:
    part = next((part for part, names in PART_CHARTS.items() if names[0] == chart), chart)
    settings = getattr(lab.platform, part.replace("-", "_"), None)
    version = settings.version if settings is not None and _is_on(lab, part) else None
    return replace(CHARTS[chart], version=version or CHARTS[chart].version)


def _is_on(lab: Settings, part: str) -> bool:
    if part == KAMAJI:
        return bool(lab.tenants)
    return lab.cluster.cni.is_cilium if part == CILIUM else lab.platform.on(part)


def _own(lab: Settings) -> Iterator[str]:
    """The images of the pods that are this program's."""
    on = lab.platform
    if on.dns and on.dns.enabled:
        yield _tagged(IMAGES["adguard"], on.dns.version)
        if on.dns.zone:
            yield IMAGES["coredns"]
    if on.nfs and on.nfs.enabled and on.nfs.node:
        yield IMAGES["nfs-server"]
    if on.on("etcd-backup"):
        yield from (IMAGES["python"], f"ghcr.io/siderolabs/talosctl:{lab.cluster.talos.version}")
    yield from _of_tenants(lab)
    if lab.cluster.cni is Cni.FLANNEL_HOST_GW:
        yield from (IMAGES["flannel"], IMAGES["flannel-plugin"])
    if lab.pools and lab.boot_service and lab.boot_service.node:
        yield from NETBOOT.values()
    for application in on.applications.values():
        if application.enabled and application.torrent:
            yield from (IMAGES["rtorrent"], IMAGES["flood"])
        elif application.enabled and application.image:
            yield application.image


def _of_tenants(lab: Settings) -> Iterator[str]:
    for tenant in lab.tenants.values():
        yield from (IMAGES["etcd"], IMAGES["python"])
        yield from (f"registry.k8s.io/{name}:{tenant.version}" for name in SERVERS)


def _tagged(image: str, tag: str | None) -> str:
    return f"{image.rpartition(':')[0]}:{tag}" if tag else image


def _system(lab: Settings) -> Iterator[str]:
    """What nodes pull before any part of the platform runs."""
    kubernetes, talos = lab.cluster.kubernetes.version, lab.cluster.talos
    yield from (installer(talos.factory, schematic(node, lab).id, talos.version) for node in lab.nodes.values())
    yield f"ghcr.io/siderolabs/kubelet:{kubernetes}"
    for name in SERVERS:
        yield f"registry.k8s.io/{name}:{kubernetes}"
    if not lab.cluster.cni.replaces_kube_proxy:
        yield f"registry.k8s.io/kube-proxy:{kubernetes}"
    if talos.version in TALOS:
        bundle = TALOS[talos.version]
        yield from (bundle.etcd, bundle.coredns, bundle.pause)
        if lab.cluster.cni is Cni.FLANNEL:
            yield bundle.flannel


def _disk_images(lab: Settings) -> Iterator[str]:
    talos = lab.cluster.talos
    if not talos.image:
        for node in lab.nodes.values():
            yield image_url(talos.factory, schematic(node, lab).id, talos.version)


def _notes(lab: Settings, wanted: dict[str, ChartSource]) -> Iterator[str]:
    for chart, source in wanted.items():
        if source.version != CHART_IMAGES[chart].version:
            known = CHART_IMAGES[chart].version
            yield f"{chart} {source.version}: its images are listed as of {known}; look them up in its values"
    for part in (*PART_CHARTS, CILIUM):
        settings = getattr(lab.platform, part.replace("-", "_"))
        if settings is not None and settings.values and _is_on(lab, part):
            yield f"platform.{part.replace('-', '_')}.values may name images that are not listed"
    if lab.cluster.talos.version not in TALOS:
        yield (
            f"Talos {lab.cluster.talos.version}: etcd, CoreDNS, pause and flannel are not listed; "
            "`talosctl image k8s-bundle` of that version prints them"
        )
    if any(tenant.konnectivity for tenant in lab.tenants.values()):
        yield "Kamaji chooses the images of Konnectivity; `kubectl get pods -A -o yaml` shows them where it runs"
    if lab.platform.monitoring and lab.platform.monitoring.enabled and lab.platform.monitoring.grafana_plugins:
        yield "Grafana fetches its plugins from grafana.com whenever it starts; without internet it needs none"
