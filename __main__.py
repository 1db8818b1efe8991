"""The lab on one page: read the settings, build the parts in order, export what people need."""

from pathlib import Path

import pulumi

import settings
from components import outputs
from components.control_plane import ControlPlane, secrets
from components.node import Node

lab = settings.from_pulumi()
talosconfig = Path(".homelab") / pulumi.get_stack() / "talosconfig"

bundle = secrets(lab, talosconfig.resolve()).bundle
nodes = [Node(node, lab, bundle) for node in lab.enabled_nodes]
control_plane = ControlPlane(lab, bundle, nodes)
for node in nodes:
    node.join(control_plane.cluster)

outputs.export(lab, control_plane.cluster)
