"""One node: its module's disk and power, its machine config, and its membership of the cluster."""

from __future__ import annotations

from typing import Any

import pulumi

from components.spec import schematic, spec
from providers.kubernetes.resources import Member
from providers.talos.resources import Cluster, Machine
from providers.talos.schematic import image_url
from providers.talos.wire import os_authority, pack_for_worker, unpack
from providers.turingpi.resources import Flash, Power
from settings import Node as NodeSettings
from settings import Settings
from settings.models import plain


class Node(pulumi.ComponentResource):
    """A module that is a node: flashed, powered, configured; and, once there is a cluster, its member.

    The children carry the node's name with a terminator, so that no wildcard for node3 hits node30.
    """

    def __init__(self, node: NodeSettings, lab: Settings, bundle: pulumi.Output[str]) -> None:
        super().__init__("homelab:Node", node.name)
        self.settings = node
        self._lab = lab
        self._os_ca: pulumi.Output[dict[str, str]] = bundle.apply(os_authority)  # secret, as the bundle is
        self._control_planes = {cp.name: str(cp.address) for cp in lab.control_planes}
        flash = Flash(f"{node.name}-flash", self._flash(), self._child())
        power = Power(f"{node.name}-power", {**self._slot(), "on": True}, self._child(flash))
        self.machine = Machine(f"{node.name}-machine", self._machine(bundle), self._child(power))
        self.register_outputs({})

    def join(self, cluster: Cluster) -> Member:
        """Have the node be a member, once the cluster answers."""
        props = {
            **self._known(),
            "role": self.settings.role.value,
            "kubeconfig": cluster.kubeconfig,
            "control_planes": self._control_planes,
            "generation": self.settings.generation,
        }
        return Member(f"{self.settings.name}-member", props, self._child(self.machine, deleted_with=cluster))

    def _child(
        self, needs: pulumi.Resource | None = None, deleted_with: pulumi.Resource | None = None
    ) -> pulumi.ResourceOptions:
        depends_on = [needs] if needs is not None else []
        return pulumi.ResourceOptions(parent=self, depends_on=depends_on, deleted_with=deleted_with)

    def _known(self) -> dict[str, Any]:
        return {"node": self.settings.name, "address": str(self.settings.address), "os_ca": self._os_ca}

    def _slot(self) -> dict[str, Any]:
        board = self._lab.boards[self.settings.board]
        return {
            "node": self.settings.name,
            "address": str(self.settings.address),
            "slot": self.settings.slot,
            "board": board.url,
            "username": board.username,
            "password": pulumi.Output.secret(board.plain_password),
            "fingerprint": board.fingerprint or "",
        }

    def _flash(self) -> dict[str, Any]:
        talos, recipe = self._lab.cluster.talos, schematic(self.settings, self._lab)
        return {
            **self._slot(),
            "os_ca": self._os_ca,
            "generation": self.settings.generation,
            "version": talos.version,
            "schematic": "" if talos.image else recipe.id,  # nobody knows what an image of the owner's own is made of
            "recipe": "" if talos.image else recipe.yaml,
            "factory": talos.factory,
            "image": talos.image or image_url(talos.factory, recipe.id, talos.version),
            "sha256": talos.sha256 or "",
            "rank": [0 if self.settings.is_control_plane else 1, self.settings.slot],
            # Who knows of replicas on its disk.
            **({"control_planes": self._control_planes} if self._lab.platform.on("longhorn") else {}),
        }

    def _machine(self, bundle: pulumi.Output[str]) -> dict[str, Any]:
        node, cluster = self.settings, self._lab.cluster
        packed = bundle if node.is_control_plane else bundle.apply(lambda whole: pack_for_worker(unpack(whole)))
        logins = {
            host: {"username": login.username, "password": plain(login.password)}
            for host, login in cluster.registries.credentials.items()
        }
        return {
            "node": node.name,
            "address": str(node.address),
            "spec": spec(node, self._lab),
            "secrets": pulumi.Output.secret(packed),
            "credentials": pulumi.Output.secret(logins),
            "generation": node.generation,
            "allow_reboot": cluster.talos.allow_reboot,
            "control_planes": self._control_planes,
            **self._versions(),
        }

    def _versions(self) -> dict[str, Any]:
        """What an upgrade needs besides the config: the image's origin, the order of nodes, whose power may be cut."""
        node, talos = self.settings, self._lab.cluster.talos
        recipe = schematic(node, self._lab)
        own = bool(talos.image or talos.installer)  # nobody knows what an image of the owner's own is made of
        return {
            "schematic": "" if own else recipe.id,
            "recipe": "" if own else recipe.yaml,
            "factory": talos.factory,
            "rank": self._rank(),
            "max_unavailable": talos.max_unavailable,
            "board": self._lab.boards[node.board].url,
            "slot": node.slot,
        }

    def _rank(self) -> int:
        """Its place in a roll-out: control planes first, each kind in the order of the settings."""
        nodes = sorted(self._lab.enabled_nodes, key=lambda other: not other.is_control_plane)
        return 1 + [other.name for other in nodes].index(self.settings.name)
