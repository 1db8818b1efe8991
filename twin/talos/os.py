"""The operating system on a module: its life from boot to power cut (facts B4)."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from twin.faults import Fault
from twin.kubernetes.controlplane import ControlPlane
from twin.kubernetes.kubelet import Kubelet
from twin.machine import UPGRADE, Machine
from twin.talos import install, upgrade
from twin.talos.config import Config, Invalid, Unparsable, check, parse
from twin.talos.etcd import Etcd
from twin.talos.pki import Pair, authority, includes, issue
from twin.talos.process import Process
from twin.talos.registry import lan
from twin.talos.server import ApiServer
from twin.talos.vip import Vip


@dataclass
class Service:
    """A service as ServiceList shows it."""

    state: str
    healthy: bool = False
    message: str = ""
    since: float = field(default_factory=time.time)  # epoch seconds


def boot(machine: Machine) -> Os:
    """Start the system that is on the machine's disk; returns at once."""
    known = lan(machine.lab).listening
    if machine.name not in known:
        known.add(machine.name)
        for name in ("etcd-down", "kubelet-down"):
            machine.lab.faults.on_now(name, partial(_play, machine))
    return Os(machine)


def _play(machine: Machine, fault: Fault) -> None:
    system = lan(machine.lab).at(str(machine.spec.address))
    if fault.node not in (None, machine.name) or system is None:
        return
    part = system.etcd if fault.name == "etcd-down" else system.kubelet
    if part is not None:
        part.kill()
        system.service(fault.name.removesuffix("-down"), "Failed")


def _shown(config: Config) -> tuple[object, ...]:
    """What the Talos API's certificate is made of."""
    return config.accepted("machine"), config.at("machine", "certSANs"), config.at("machine", "token")


def _of_kubelet(config: Config) -> tuple[object, ...]:
    """What the kubelet is started anew for."""
    return config.kubelet_image, config.accepted("cluster")


class Os:
    """One boot of Talos on one machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.lab = machine.lab
        self.address = str(machine.spec.address)
        image = machine.disk.image
        self.release = image.version if image else "v0.0.0"
        self.schematic = image.schematic if image else ""
        self.stage = "booting"
        self.config: Config | None = None
        self.services: dict[str, Service] = {}
        self.installing = False
        self.pulled: set[str] = set()  # images, since the boot
        self.trials = 0  # configs taken since the boot: a later one ends a trial
        self.etcd: Etcd | None = None
        self.control_plane: ControlPlane | None = None
        self.kubelet: Kubelet | None = None
        self.vip = Vip(self)
        self.api = ApiServer(self)
        self._leaves: dict[str, tuple[bytes, Pair]] = {}
        self._jobs: set[asyncio.Task[Any]] = set()
        self._cut = False  # the power is away, or this boot has ended otherwise
        self._applied: asyncio.Future[bytes] | None = None
        lan(self.lab).systems[self.address] = self
        self.task: asyncio.Task[None] = self.lab.spawn(self._life(), f"talos {machine.name}")

    # What the parts of the system ask of it.

    @property
    def version(self) -> tuple[int, int]:
        """Major and minor number of the release."""
        major, minor = self.release.removeprefix("v").split(".")[:2]
        return int(major), int(minor)

    @property
    def config_or_fail(self) -> Config:
        """The config; only parts that run with one ask."""
        if self.config is None:
            raise RuntimeError("asked for a machine config in maintenance mode")
        return self.config

    @property
    def hostname(self) -> str:
        """The node's name."""
        return self.config_or_fail.hostname(self.machine.spec.mac)

    @property
    def logs(self) -> Path:
        """Where the node's servers write; readable by the twin's owner only."""
        return self._folder("logs")

    @property
    def etcd_leaf(self) -> Pair:
        """The node's client certificate for etcd."""
        return self.leaf("etcd-client", self.authority("cluster", "etcd", "ca"), "talos", server=True)

    def at(self, *path: str, default: Any = None) -> Any:
        """A value of the config."""
        return self.config_or_fail.at(*path, default=default)

    def authority(self, *path: str) -> Pair:
        """An authority of the config."""
        return self.config_or_fail.authority(*path)

    def hosts(self) -> list[str]:
        """The names and addresses that this node's certificates carry."""
        return [self.hostname, self.address, "localhost", "127.0.0.1"]

    def leaf(
        self,
        name: str,
        ca: Pair,
        common: str,
        groups: Sequence[str] = (),
        hosts: Sequence[str] = (),
        *,
        server: bool = False,
    ) -> Pair:
        """A certificate of this boot, made once as long as its authority and names stay the same."""
        subject = b"|".join([ca.crt, common.encode(), *(item.encode() for item in (*groups, *hosts))])
        known = self._leaves.get(name)
        if known is None or known[0] != subject:
            known = (subject, issue(ca, common, groups, hosts, server=server, client=True))
            self._leaves[name] = known
        return known[1]

    def run_folder(self, name: str) -> Path:
        """A folder for files of this boot (keys among them), gone at the next one."""
        folder = self._folder("run") / name
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def service(self, name: str, state: str, message: str = "", *, healthy: bool = False) -> None:
        """Set what ServiceList shows."""
        self.services[name] = Service(state, healthy, message)

    def emit(self, kind: str, **data: Any) -> None:
        """Write an event of this node."""
        self.lab.events.emit(kind, node=self.machine.name, **data)

    def fault(self, name: str, **where: str | None) -> Fault | None:
        """Take a fault that is armed for this node."""
        return self.lab.faults.take(name, node=self.machine.name, **where)

    def standing(self, name: str) -> Fault | None:
        """A fault that holds as long as it is armed."""
        return self.lab.faults.active(name, node=self.machine.name)

    def serve(self, process: Process) -> None:
        """Start a server program that ends with this boot at the latest. Raises CancelledError after it."""
        if self._cut:
            raise asyncio.CancelledError(f"{self.machine.name} has no power")
        process.start()

    def job(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run something that ends with this boot at the latest, and does not begin after it."""
        if self._cut:
            work.close()
            return
        task = self.lab.spawn(work, f"{name} {self.machine.name}")
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    # What the API does to it.

    def apply(self, text: bytes) -> None:
        """Take a config in maintenance mode: it is installed, then the node reboots."""
        if self._applied is not None and not self._applied.done():
            self.installing = True
            self._applied.set_result(text)

    async def take(self, config: Config) -> None:
        """Take over a config that needs no reboot; another image or authority of the kubelet starts it anew."""
        before, self.config = self.config, config
        if before is not None and _shown(before) != _shown(config):
            self.job(self._renew_api(), "certificates")
        if self.control_plane is not None and self.control_plane.began:
            await self.control_plane.reconfigure()
        if self.kubelet is not None and before is not None and _of_kubelet(before) != _of_kubelet(config):
            self.service("kubelet", "Finished")
            await self.restart_kubelet()
        elif self.kubelet is not None and self.kubelet.ready:
            await self.kubelet.apply_labels()

    async def stop_services(self) -> None:
        """Stop what the node serves, in order; its API goes on."""
        self.vip.release()
        if self.kubelet is not None:
            await self.kubelet.stop()
        if self.control_plane is not None:
            await self.control_plane.stop()
        if self.etcd is not None and not self.etcd.left:
            await self.etcd.stop()

    def power_cut(self) -> None:
        """Kill the node's processes and close its sockets, at once."""
        self._cut = True
        self.api.cut(half_open=self.standing("half-open") is not None)
        self.vip.cut()
        for part in (self.etcd, self.control_plane, self.kubelet):
            if part is not None:
                part.kill()
        for task in self._jobs:
            task.cancel()
        if lan(self.lab).systems.get(self.address) is self:
            del lan(self.lab).systems[self.address]

    # Its life.

    async def _life(self) -> None:
        shutil.rmtree(self._folder("run"), ignore_errors=True)
        self.machine.uart(f"[talos] booting Talos {self.release}, arch arm64\n")
        text = self.machine.disk.state_config
        if text is None:
            await self._maintenance()
        else:
            await self._configured(text)

    async def _maintenance(self) -> None:
        random = authority("talos")
        await self.api.listen(issue(random, "maintenance-service.talos.dev", hosts=[self.address], server=True), None)
        while True:
            self.stage = "maintenance"
            self._applied = asyncio.get_running_loop().create_future()
            self.machine.uart(
                f"[talos] this machine is reachable at:\n[talos] \t{self.address}\n[talos] upload configuration using "
                f"talosctl:\n[talos] \ttalosctl apply-config --insecure --nodes {self.address} --file <config.yaml>\n"
            )
            self.emit("maintenance")
            if await self._install(await self._applied):
                await self.machine.reboot()
                return
            self.installing = False

    async def _install(self, text: bytes) -> bool:
        self.stage = "installing"
        self.emit("install_started")
        await self.lab.clock.sleep(self.lab.times.install_s)
        problem = install.problem(self.machine, parse(text))
        if self.fault("install-fails") is not None:
            problem = "failed to write the installer's image"
        if problem:
            self.machine.uart(f"[talos] task install (1/1): failed: {problem}\n")
            self.emit("install_failed")
            return False
        self.machine.disk.state_config = text
        self.emit("install_done")
        self.stage = "rebooting"
        return True

    async def _configured(self, text: bytes) -> None:
        try:
            self.config = parse(text)
            check(self.config, self.version)
        except (Unparsable, Invalid) as error:
            self.machine.uart(f"[talos] {error}\n")
            self.config = None
            await self._maintenance()
            return
        if await upgrade.reverted(self):
            return
        self.service("machined", "Running", healthy=True)
        await self._serve_api()
        parts: list[Coroutine[Any, Any, Any]] = [self._services(), self.vip.run(), upgrade.prove(self)]
        await asyncio.gather(*parts)
        await asyncio.Event().wait()

    async def _serve_api(self) -> None:
        self.service("apid", "Starting")
        await self.api.listen(await self._api_leaf(), self.config_or_fail.accepted("machine"))
        self.service("apid", "Running", healthy=True)
        self.emit("api_up")

    async def _renew_api(self) -> None:
        """Its authorities or names changed: a certificate is made at once."""
        self.api.renew(await self._api_leaf(), self.config_or_fail.accepted("machine"))
        self.emit("api_renewed")

    async def _api_leaf(self) -> Pair:
        leads = self.config_or_fail.control_plane
        hosts = [*self.hosts(), *(str(san) for san in self.at("machine", "certSANs", default=[]))]
        signer = self.authority("machine", "ca") if leads else await self._trustd()
        return issue(signer, self.hostname, hosts=hosts, server=True)

    async def _trustd(self) -> Pair:
        """A worker's certificate comes from a control plane that knows its token (trustd)."""
        while True:
            for peer in lan(self.lab).control_planes(self):
                if peer.services.get("trustd") and peer.at("machine", "token") == self.at("machine", "token"):
                    signer = peer.authority("machine", "ca")
                    if includes(self.config_or_fail.accepted("machine"), signer.crt):
                        return signer
            await asyncio.sleep(0.2)

    async def _services(self) -> None:
        for name in ("containerd", "udevd", "syslogd", "auditd", "dashboard"):
            self.service(name, "Running", healthy=True)
        if self.config_or_fail.control_plane:
            self.service("trustd", "Running", healthy=True)
        await self.lab.clock.sleep(self.lab.times.service_s)
        self.service("cri", "Running", healthy=True)
        if any("iscsi" in name for name in install.extensions(self)):
            self.service("ext-iscsid", "Running", healthy=True)
        self.kubelet = Kubelet(self)
        work: list[Coroutine[Any, Any, Any]] = [self._run_kubelet(), self._boot_done()]
        if self.config_or_fail.control_plane:
            self.etcd = Etcd(self)
            work.append(self._run_control_plane(self.etcd))
        await asyncio.gather(*work)

    async def restart_kubelet(self) -> None:
        """Somebody asked for it: a kubelet that starts registers its Node again, one that runs never does."""
        if self.kubelet is not None:
            await self.kubelet.stop()
            self.kubelet = Kubelet(self)
            self.job(self._run_kubelet(), "kubelet")

    async def _run_kubelet(self) -> None:
        if self.kubelet is not None:
            await self.lab.clock.sleep(self.lab.times.kubelet_s)
            while UPGRADE in self.machine.disk.meta and self.standing("upgrade-never-ready") is not None:
                await asyncio.sleep(0.1)
            await self.kubelet.run()

    async def _run_control_plane(self, etcd: Etcd) -> None:
        await etcd.run()
        self.control_plane = ControlPlane(self)
        await self.control_plane.run()

    async def _boot_done(self) -> None:
        """The boot sequence ends when every service is up: on a control plane that means a bootstrapped etcd."""
        wanted = ["kubelet", "etcd"] if self.config_or_fail.control_plane else ["kubelet"]
        while not all(self.services.get(name, Service("")).healthy for name in wanted):
            await asyncio.sleep(0.1)
        self.stage = "running"
        self.machine.uart("[talos] boot sequence: done\n")
        self.emit("running")

    def unmet(self) -> list[tuple[str, str]]:
        """Why the machine is not ready: name and reason of each condition."""
        if self.config is None or self.stage != "running":
            return []
        conditions = []
        down = sorted(
            name for name, service in self.services.items() if not service.healthy and service.state != "Finished"
        )
        if down:
            conditions.append(("services", f"{', '.join(down)} not healthy"))
        if self.kubelet is None or not self.kubelet.ready:
            conditions.append(("nodeReady", "node is not ready"))
        if self.config.control_plane and (self.control_plane is None or not self.control_plane.ready):
            conditions.append(("staticPods", "kube-apiserver not ready"))
        return conditions

    def _folder(self, kind: str) -> Path:
        folder = self.lab.folder / kind / self.machine.name
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        return folder
