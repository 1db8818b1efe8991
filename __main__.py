"""The lab on one page: read the settings, build the parts in order, export what people need."""

from pathlib import Path

import pulumi

import policy
import settings
from components import outputs
from components.control_plane import ControlPlane, secrets
from components.node import Node
from components.spec import installs_network
from providers.engine import keep_debug_to_itself

keep_debug_to_itself()
lab = settings.from_pulumi()
policy.hold(lab)
talosconfig = Path(".homelab") / pulumi.get_stack() / "talosconfig"

if lab.enabled_nodes:
    bundle = secrets(lab, talosconfig.resolve()).bundle
    nodes = [Node(node, lab, bundle) for node in lab.enabled_nodes]
    control_plane = ControlPlane(lab, bundle, nodes)
    members = [node.join(control_plane.cluster) for node in nodes]
    outputs.export(lab, control_plane.cluster)

    if lab.platform.any or installs_network(lab):
        from components.platform import platform  # what it imports takes longer than a cluster without a platform

        outputs.export_platform(lab, platform(lab, control_plane.cluster, members))

if lab.clusters:
    from components.clusters import clusters  # a lab without hosts needs none of it

    outputs.export_clusters(clusters(lab))
