"""The control plane behind its VIP: the cluster's secrets, and etcd bootstrapped once."""

from __future__ import annotations

import os
from pathlib import Path

import pulumi

from components.after import after
from components.node import Node
from providers.talos.resources import Cluster, Secrets
from settings import Settings

ROTATE = "HOMELAB_ROTATE"  # one step of a rotation, from `homelab rotate` to this very run


def secrets(lab: Settings, talosconfig: Path) -> Secrets:
    """The cluster's secrets: made once, or read back from a cluster that `talosconfig` opens."""
    nodes = lab.enabled_nodes
    props = {
        "cluster": lab.cluster.name,
        "control_planes": {node.name: str(node.address) for node in nodes if node.is_control_plane},
        "workers": {node.name: str(node.address) for node in nodes if not node.is_control_plane},
        "talosconfig_path": str(talosconfig),
        "rotate": os.environ.get(ROTATE, ""),
    }
    return Secrets("secrets", props)


class ControlPlane(pulumi.ComponentResource):
    """The control planes as one thing: bootstrapped after all of them are configured, dependent on none of them."""

    def __init__(self, lab: Settings, bundle: pulumi.Output[str], nodes: list[Node]) -> None:
        super().__init__("homelab:ControlPlane", "control-plane")
        endpoint = lab.cluster.endpoint
        machines = [node.machine for node in nodes if node.settings.is_control_plane]
        addresses = {node.name: str(node.address) for node in lab.control_planes}
        props = {
            "cluster": lab.cluster.name,
            "control_planes": after(addresses, *machines),
            "vip": str(endpoint.vip),
            "dns": endpoint.dns or "",
            "port": endpoint.port,
            "secrets": bundle,
        }
        self.cluster = Cluster("cluster", props, pulumi.ResourceOptions(parent=self))
        self.register_outputs({})
