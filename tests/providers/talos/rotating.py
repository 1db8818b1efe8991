"""A cluster on simulated nodes whose keys the program's own client exchanges."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from providers.deadline import Deadline
from providers.dynamic import Props
from providers.engine import Reporter
from providers.talos import rotate_live
from providers.talos.client import ApplyMode, Mode, Talos, probe
from providers.talos.config import NodeConfig, render, same
from providers.talos.rotate_check import Nodes, clients, prove_talos
from providers.talos.rotation import NONE, advance, wish
from providers.talos.secrets import SecretsBundle
from providers.talos.wire import admin
from tests.twin.talos_scene import Scene

QUIET = Reporter(urn="")


class Lab:
    """Machines of a scene that run with the keys of `bundle`. `roles` says what each is."""

    def __init__(self, scene: Scene, roles: Mapping[str, str]) -> None:
        self.scene, self.roles = scene, roles
        self.addresses = {name: str(scene.machines[name].spec.address) for name in self.roles}
        self.bundle, self.rotation = SecretsBundle.generate(), NONE
        scene.maintenance(*self.roles)
        for name in self.roles:
            with Talos.insecure(self.addresses[name]) as talos:
                talos.apply_configuration(self.config(name), ApplyMode.AUTO)
        Deadline(30).poll(lambda: self.modes() == {Mode.OURS} or None, "nodes with their config", 0.05)

    def modes(self) -> set[Mode]:
        cert = admin(self.bundle.os)
        return {probe(address, cert) for address in self.addresses.values()}

    @property
    def nodes(self) -> Nodes:
        planes = {name: at for name, at in self.addresses.items() if self.roles[name] == "controlplane"}
        workers = {name: at for name, at in self.addresses.items() if name not in planes}
        return Nodes(planes, workers, f"{self.scene.net}.10", 6443)

    def config(self, name: str, bundle: SecretsBundle | None = None) -> str:
        node = NodeConfig(
            cluster="test",
            name=name.replace("m", "n"),
            role=self.roles[name],
            mac=f"02:00:00:00:00:0{name[1]}",
            address=self.addresses[name],
            vip=f"{self.scene.net}.10",
            subnet=f"{self.scene.net}.0/24",
            talos="v1.13.9",
            kubernetes="v1.36.1",
            installer="factory.talos.dev/metal-installer/x:v1.13.9",
            disk="/dev/mmcblk0",
        )
        return render(node, bundle or self.bundle)

    def step(self, number: int, what: str = "os-ca") -> None:
        self.bundle, self.rotation = advance(self.bundle, self.rotation, wish(what, number))

    def props(self, name: str) -> Props:
        return {
            "node": name,
            "address": self.addresses[name],
            "spec": {"role": self.roles[name], "cluster": f"test {self.scene.net}"},
            "control_planes": self.nodes.control_planes,
            "allow_reboot": True,
        }

    def give(self, name: str) -> None:
        """What a Machine does with the present keys."""
        cert = admin(self.bundle.os)
        with Talos.secure(self.addresses[name], cert) as talos:
            live = talos.machine_config()
        if same(live, self.config(name)):
            return
        with (
            rotate_live.taking(self.props(name), live, self.config(name), cert, QUIET),
            Talos.secure(self.addresses[name], cert) as talos,
        ):
            talos.apply_configuration(self.config(name), ApplyMode.NO_REBOOT)

    def give_all(self) -> None:
        """As the engine does: all at once."""
        with ThreadPoolExecutor(len(self.roles)) as pool:
            list(pool.map(self.give, self.roles))

    def prove(self) -> list[str]:
        said: list[str] = []
        prove_talos(self.nodes, clients("os", self.bundle, self.rotation), said.append)
        return said
