"""The platform's parts as the settings have them, and what the API tells of their services and of the backup job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from cli import observe
from cli.observe import Lab
from cli.report_lab import Job, PartSeen, Service
from components.versions import CHARTS, IMAGES
from providers.errors import HomelabError
from settings.parts import EtcdBackup
from settings.platform import PARTS, ZONE

# The chart that a part is, where it isn't called as the part is.
CHART = {"nfs": "csi-driver-nfs", "monitoring": "kube-prometheus-stack"}
SERVICES = "/api/v1/services"
CRON_JOB = "/apis/batch/v1/namespaces/etcd-backup/cronjobs/etcd-backup"  # as `components.etcd_backup` calls it


def parts(lab: Lab) -> tuple[PartSeen, ...]:
    """The parts that are on, and the applications."""
    platform = lab.settings.platform
    names = (*PARTS, *platform.applications)
    found = [_part(lab, name) for name in names if platform.on(name)]
    if lab.settings.cluster.cni.is_cilium:
        own = platform.cilium.version if platform.cilium else None
        found.insert(0, PartSeen("cilium", own or CHARTS["cilium"].version))
    return tuple(found)


def _part(lab: Lab, name: str) -> PartSeen:
    platform = lab.settings.platform
    hosts = tuple(host for host, owner in platform.hosts.items() if owner == name)
    services = (name, ZONE) if name == "dns" else (name,)
    addresses = tuple(str(it) for service in services if (it := platform.address(service)) is not None)
    return PartSeen(name, _version(lab, name), hosts, addresses)


def _version(lab: Lab, name: str) -> str:
    """The settings' word, else the one that was tested; an application's is its image's."""
    platform = lab.settings.platform
    if name in platform.applications:
        image = platform.applications[name].image
        return str(image) if image else ""
    own = getattr(getattr(platform, name.replace("-", "_")), "version", None)
    if own:
        return str(own)
    if name == "dns":
        return IMAGES["adguard"].rpartition(":")[2]
    chart = CHARTS.get(CHART.get(name, name))
    return chart.version if chart else ""


def services(lab: Lab) -> tuple[Service, ...] | None:
    """The services that the LAN can reach; None when the API could not be asked."""
    try:
        listed = observe.api(lab, lambda kube: kube.look(SERVICES)) or {}
    except HomelabError:
        return None
    return tuple(_services(listed))


def _services(listed: Mapping[str, Any]) -> Iterator[Service]:
    for item in listed.get("items", ()):
        spec, metadata = item.get("spec") or {}, item["metadata"]
        if spec.get("type") != "LoadBalancer":
            continue
        given = ((item.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
        ports = tuple(f"{port['port']}/{port.get('protocol', 'TCP')}" for port in spec.get("ports") or ())
        addresses = ", ".join(str(it.get("ip") or it.get("hostname")) for it in given)
        yield Service(metadata["namespace"], metadata["name"], addresses, ports)


def job(lab: Lab) -> Job | None:
    """The nightly backup; None when the settings have none."""
    own = lab.settings.platform.etcd_backup
    if own is None or not own.enabled:
        return None
    bare = Job(own.schedule, _target(lab, own))
    try:
        found = observe.api(lab, lambda kube: kube.look(CRON_JOB))
    except HomelabError:
        return Job(bare.schedule, bare.target, note="the API gives no answer")
    if found is None:
        return Job(bare.schedule, bare.target, note="it is not in the cluster; homelab up makes it")
    status = found.get("status") or {}
    return Job(
        bare.schedule,
        bare.target,
        succeeded=_moment(status.get("lastSuccessfulTime")),
        scheduled=_moment(status.get("lastScheduleTime")),
        suspended=bool((found.get("spec") or {}).get("suspend")),
    )


def _target(lab: Lab, own: EtcdBackup) -> str:
    """Where it keeps them: on a server of its own, else on that of the part nfs."""
    if own.nfs is not None:
        return f"{own.nfs.server}:{own.nfs.path}"
    nfs = lab.settings.platform.nfs
    return "" if nfs is None else f"{nfs.server or nfs.node}:{nfs.path}"


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
