"""The lab on one page: read the settings, build the parts in order, export what people need."""

from pathlib import Path
from typing import TYPE_CHECKING

import pulumi

import policy
import settings
from components import outputs
from components.control_plane import ControlPlane, secrets
from components.node import Node
from components.spec import installs_network
from providers.engine import keep_debug_to_itself

if TYPE_CHECKING:
    from components.part import Part

keep_debug_to_itself()
lab = settings.from_pulumi()
policy.hold(lab)
talosconfig = Path(".homelab") / pulumi.get_stack() / "talosconfig"

# What is imported below its condition takes time, and no lab waits for what only others have.
kubeconfigs: dict[str, pulumi.Output[str]] = {}
if lab.clusters:
    from components.clusters import clusters

    kubeconfigs = clusters(lab)
    outputs.export_clusters(kubeconfigs)

if lab.enabled_nodes:
    bundle = secrets(lab, talosconfig.resolve()).bundle
    nodes = [Node(node, lab, bundle) for node in lab.enabled_nodes]
    control_plane = ControlPlane(lab, bundle, nodes)
    members = [node.join(control_plane.cluster) for node in nodes]
    outputs.export(lab, control_plane.cluster)

    netboot = None
    if lab.pools:
        from components.pool import Netboot

        netboot = Netboot(lab, bundle, control_plane.cluster, kubeconfigs)

    in_cluster = netboot.in_cluster if netboot else ()
    parts: list["Part"] = []
    if lab.platform.any or installs_network(lab) or in_cluster:
        from components.platform import platform

        parts = platform(lab, control_plane.cluster, members, in_cluster)
        outputs.export_platform(lab, parts)
    if netboot:
        netboot.start(parts)

if lab.cards:
    from components.card import Card

    for name, card in lab.cards.items():
        Card(name, card)
