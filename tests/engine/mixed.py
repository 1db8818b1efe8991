"""One lab of everything: boards with Talos, a k3s cluster on hosts, a pool of machines without disks, a tenant.

The twin of the boards is the shipped one; hosts and boxes are played by `twin.hosts`, the boxes' BMCs by sushy-tools.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from tests.engine.hosts import HostsLab
from tests.engine.sandbox import Run
from tests.providers.netboot.boots import http_server, running
from tests.providers.redfish.emulator import Emulator, emulator

UP_S = 1500.0
HTTP_PORT = 8069
BOXES = {"box1": 1, "box2": 2}
PASSWORD = "homelab:pools.boxes.machines.{}.power.redfish.password"


class MixedLab(HostsLab):
    """Four Talos nodes, the k3s cluster garage of h1 and h2, the pool of box1 and box2, and the tenant school."""

    pool_cluster: str | None = None  # where the pool is; None is at home

    def __post_init__(self) -> None:
        """All in one LAN, which is that of the boards."""
        super().__post_init__()
        self.prefix = self.sandbox.prefix

    def address(self, name: str) -> str:
        """A host's address; the boards' nodes have those below."""
        return self.near(30 + int(name[1:]))

    def prepare(self) -> MixedLab:
        """Start everything but the boards, and write the settings."""
        self.sandbox.time_scale = "0.2"
        self._running = ExitStack()
        www = self.folder / "netboot" / "www"
        www.mkdir(parents=True)
        self.write_image()
        self._running.enter_context(running(http_server(www, self.near(8), HTTP_PORT), self.folder / "http.log"))
        boxes = {self.uuid(name): self.mac(name) for name in BOXES}
        bmcs = self.folder / "bmcs"
        bmcs.mkdir()
        told = f"http://{self.near(9)}:9000/power"
        self.bmcs: Emulator = self._running.enter_context(
            emulator(bmcs, systems=(), tls=True, boxes=boxes, notified=told)
        )
        super().prepare()
        for name in BOXES:
            self.engine("config", "set", "--path", PASSWORD.format(name), "--secret", given="right").ok()
        return self

    def near(self, last: int) -> str:
        """An address of the LAN."""
        return f"{self.prefix}.{last}"

    def mac(self, name: str) -> str:
        """Of a box's card."""
        return f"02:00:00:00:01:0{BOXES[name]}"

    def uuid(self, name: str) -> str:
        """Of a box's firmware."""
        return f"11111111-0000-4000-8000-00000000000{BOXES[name]}"

    def write_image(self) -> None:
        """What the boxes boot, as the twin understands it."""
        (self.folder / "vmlinuz").write_text("a kernel")
        (self.folder / "root").write_text("twin-root kubelet=v1.36.1\n")

    def lab(self) -> dict[str, Any]:
        """Hosts and boxes."""
        entry = f"http://{self.near(8)}:{HTTP_PORT}/boot.ipxe"
        boxes = {
            name: {"uuid": self.uuid(name), "mac": self.mac(name), "address": self.near(40 + i), "entry": entry}
            for name, i in BOXES.items()
        }
        return {**super().lab(), "boxes": boxes, "bmc": f"{self.near(9)}:9000"}

    def beside(self, before: dict[str, Any]) -> dict[str, Any]:
        """Talos as shipped, and what tenants and pools need."""
        house = self.prefix
        shipped = {key: before[f"homelab:{key}"] for key in ("cluster", "boards", "nodes")}
        platform = {
            "charts": {"mirror": f"http://{house}.2:8080/charts"},
            "pools": [f"{house}.200-{house}.250"],
            "metallb": {},
            "cert_manager": {},
            "nfs": {"server": f"{house}.3", "path": "/export"},
        }
        sections = {
            **shipped,
            "platform": platform,
            "tenants": {"school": {"version": "v1.36.1", "address": f"{house}.247", "replicas": 1}},
            "boot_service": {"address": self.near(8), "port": HTTP_PORT, "folder": str(self.folder / "netboot")},
            "pools": {"boxes": self._pool(before.get("homelab:pools", {}))},
        }
        return {f"homelab:{key}": value for key, value in sections.items()}

    def _pool(self, before: dict[str, Any]) -> dict[str, Any]:
        linux = {"release": "r1", "kernel": str(self.folder / "vmlinuz"), "initramfs": str(self.folder / "root")}
        known = before.get("boxes", {}).get("machines", {})
        cluster = {"cluster": self.pool_cluster} if self.pool_cluster else {}
        # The twin of the boards runs real servers behind a tenant's pods, and can't on machines that others play.
        marks = {"labels": {"example.com/rack": "left"}, "taints": {"example.com/only": "batch:NoSchedule"}}
        machines = {name: self._box(name, known.get(name, {})) for name in BOXES}
        return {**cluster, **marks, "image": {"linux": linux}, "machines": machines}

    def _box(self, name: str, known: dict[str, Any]) -> dict[str, Any]:
        kept = known.get("power", {}).get("redfish", {})
        bmc = {"address": self.bmcs.url, "username": "admin", "password": kept.get("password", "to come")}
        return {
            "mac": self.mac(name),
            "power": {"redfish": {**bmc, "fingerprint": self.bmcs.fingerprint, "system": self.uuid(name)}},
        }

    def up(self, *arguments: str) -> Run:
        """`homelab up`."""
        return self.sandbox.run("up", "--yes", *arguments, limit_s=UP_S)

    def home(self) -> str:
        """The kubeconfig of the cluster on boards."""
        return (self.folder / ".homelab" / "kubeconfig").read_text(encoding="utf-8")

    def tenant(self) -> str:
        """The tenant's."""
        file = self.folder / ".homelab" / "twin" / "tenants" / "school.kubeconfig"
        return file.read_text(encoding="utf-8")

    def end(self) -> None:
        """End all of it."""
        with self._running:
            try:
                if (self.state_folder / "twin.json").exists():
                    super().end()
            finally:
                self.sandbox.end()
