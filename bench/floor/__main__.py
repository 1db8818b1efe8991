"""The floor: what the engine takes for as many resources, components and dependencies when nothing is in them."""

import os

from pulumi import ComponentResource, ResourceOptions
from trivial import Trivial  # type: ignore[import-not-found]  # beside this file, which runs as a program of its own

Trivial("secrets")
for index in range(int(os.environ["FLOOR_NODES"])):
    node = ComponentResource("floor:Node", f"node{index}")
    for kind in ("flash", "power", "machine", "member"):
        Trivial(f"node{index}-{kind}", ResourceOptions(parent=node))
Trivial("cluster", ResourceOptions(parent=ComponentResource("floor:ControlPlane", "control-plane")))
