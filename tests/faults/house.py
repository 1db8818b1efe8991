"""A lab to disturb: faults are injected by the twin's own command, and what they did is read from its event log."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import yaml

from providers.kubernetes.client import Kube
from providers.talos.client import EtcdMember, Talos
from providers.talos.pki import ClientCert
from providers.talos.secrets import read_talosconfig
from tests.engine.sandbox import Sandbox

BOARD = "board1"


def module(node: str) -> str:
    """The twin's name for the module that plays a node: they share slots in order."""
    return node.replace("node", "m")


class House(Sandbox):
    """A sandbox whose twin can be disturbed."""

    # What is wrong from the start, and what is done while it runs.

    def change(self, name: str, change: Callable[[Any], object]) -> None:
        """Change one of the copy's YAML files."""
        data = yaml.safe_load((self.folder / name).read_text(encoding="utf-8"))
        change(data)
        self.write(name, yaml.safe_dump(data, sort_keys=False))

    def change_lab(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Change the hardware."""
        self.change(f"twin/labs/{self.lab}.yaml", change)

    def change_settings(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Change the settings."""
        self.change(self.settings, lambda data: change(data["config"]))

    def change_node(self, node: str, **values: object) -> None:
        """Change one node's settings; None takes a key away."""

        def change(config: dict[str, Any]) -> None:
            settings = config["homelab:nodes"][node]
            settings.update(values)
            for key in [key for key, value in values.items() if value is None]:
                del settings[key]

        self.change_settings(change)

    def fault(self, name: str, **where: object) -> None:
        """Arm a fault, or play it when it is one for now."""
        words = [word for key, value in where.items() for word in (f"--{key.replace('_', '-')}", str(value))]
        self.twin("fault", name, *words)

    def clear(self, *name: str) -> None:
        """Disarm the faults of a name, or all."""
        self.twin("fault", *name, "--clear")

    # What is seen.

    def played(self, fault: str, since: int = 0) -> int:
        """How often a fault happened."""
        return sum(event["fault"] == fault for event in self.events()[since:] if event["kind"] == "fault")

    def since(self, mark: int, *kinds: str, node: str | None = None) -> list[dict[str, Any]]:
        """The events of some kinds since `mark` events, in order."""
        of_node = None if node is None else module(node)
        found = [event for event in self.events()[mark:] if event["kind"] in kinds]
        return [event for event in found if of_node in (None, event.get("node"))]

    def mark(self) -> int:
        """How many events there are by now."""
        return len(self.events())

    def hardware(self) -> dict[str, Any]:
        """`python -m twin status --json`."""
        return dict(json.loads(self.twin("status", "--json")))

    def machine(self, node: str, board: str = BOARD) -> dict[str, Any]:
        """What the twin says of a node's module."""
        return dict(self.hardware()["boards"][board]["modules"][module(node)])

    def address(self, node: str) -> str:
        """A node's address."""
        return f"{self.prefix}.1{node[-1]}"

    @property
    def cert(self) -> ClientCert:
        """The admin certificate that `up` left."""
        return read_talosconfig((self.folder / ".homelab" / "talosconfig").read_text(encoding="utf-8"))

    def kube(self) -> Kube:
        """A client with the kubeconfig that `up` left."""
        return Kube((self.folder / ".homelab" / "kubeconfig").read_text(encoding="utf-8"))

    def talos(self, node: str) -> Talos:
        """A client of a node."""
        return Talos.secure(self.address(node), self.cert)

    def members(self, node: str) -> dict[str, EtcdMember]:
        """etcd's members as a node sees them, by name."""
        with self.talos(node) as talos:
            return {member.hostname: member for member in talos.etcd_members(timeout_s=10)}

    def ready(self) -> dict[str, bool]:
        """Which nodes are Ready."""
        return {row["name"]: row["ready"] is True for row in self.status()["nodes"]}

    def uids(self) -> dict[str, str]:
        """Each Node's uid."""
        with self.kube() as kube:
            return {node.name: node.uid for node in kube.nodes()}
