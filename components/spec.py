"""What a node's machine config is made of, as plain data: readable in a preview, free of secrets."""

from __future__ import annotations

from typing import Any

from providers.talos.schematic import Schematic, installer
from settings import Node, Settings
from settings.cni import Cni


def schematic(node: Node, lab: Settings) -> Schematic:
    """What the node's image is made of."""
    return Schematic(node.module.overlay, lab.cluster.talos.extensions)


def installer_of(node: Node, lab: Settings) -> str:
    """The image that installs and upgrades the node: the owner's own, or the factory's for its schematic."""
    talos = lab.cluster.talos
    return talos.installer or installer(talos.factory, schematic(node, lab).id, talos.version)


def installs_network(lab: Settings) -> bool:
    """Whether the pods' network is a part of the platform: neither Talos brings it nor the owner."""
    return lab.cluster.cni not in (Cni.FLANNEL, Cni.NONE)


def spec(node: Node, lab: Settings) -> dict[str, Any]:
    """The fields of `providers.talos.config.NodeConfig` that differ from its defaults or from each other's nodes."""
    cluster, talos, network = lab.cluster, lab.cluster.talos, lab.cluster.network
    longhorn = lab.platform.longhorn if lab.platform.on("longhorn") else None
    data = {
        "cluster": cluster.name,
        "name": node.name,
        "role": node.role.value,
        "mac": str(node.mac),
        "address": str(node.address),
        "vip": str(cluster.endpoint.vip),
        "dns": cluster.endpoint.dns,
        "port": cluster.endpoint.port,
        "subnet": str(network.subnet),
        "gateway": str(network.gateway) if network.gateway else None,
        "nameservers": [str(address) for address in network.nameservers],
        "time_servers": list(network.time_servers),
        "talos": talos.version,
        "kubernetes": cluster.kubernetes.version,
        "installer": installer_of(node, lab),
        "extensions": list(talos.extensions),
        "longhorn_path": longhorn.data_path if longhorn else None,
        "disk": node.install.disk,
        "disk_selector": node.install.selector.model_dump(exclude_none=True) if node.install.selector else {},
        "cni": cluster.cni.value,
        "pod_subnets": [str(subnet) for subnet in cluster.pod_subnets],
        "service_subnets": [str(subnet) for subnet in cluster.service_subnets],
        "schedule_on_control_planes": cluster.schedule_on_control_planes,
        "labels": node.labels,
        "taints": {key: str(taint) for key, taint in node.taints.items()},
        "mirrors": {host: list(urls) for host, urls in cluster.registries.mirrors.items()},
        "patches": [*cluster.patches, *node.patches],
    }
    # The engine writes the whole state at every step: what is empty is left out.
    return {key: value for key, value in data.items() if value not in (None, [], {}, ())}
