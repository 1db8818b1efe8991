"""A lab: what hardware there is (the lab file, typed) and what its running parts share (`Lab`)."""

import asyncio
from collections.abc import Coroutine, Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from twin.clock import Clock
from twin.events import Events
from twin.faults import Fault, Faults
from twin.tasks import Tasks

if TYPE_CHECKING:
    from twin.machine import Machine


class Part(BaseModel):
    """A part of the lab file: unknown keys are mistakes, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Times(Part):
    """How long a real device takes, in device seconds; the clock multiplies them by the lab's scale."""

    power_s: float = 0.1  # bmcd waits 100 ms a node before it switches (facts A5)
    reset_s: float = 1.2  # off, 1 s, on (facts A5)
    usb_boot_s: float = 6  # 1 s and the rockusb driver's 5 s (facts A6.5)
    flash_s: float = 300  # a 1.3 GB image at 4 MB/s of eMMC (facts A6.2 gives 3-10 MB/s; an estimate)
    crc_s: float = 100  # reading the same back at about 13 MB/s (an estimate)
    boot_s: float = 60  # power on to Talos' API answering (facts B8: 1-3 min to maintenance at the first boot)
    install_s: float = 40  # Talos' installer writing the system disk (an estimate)
    shutdown_s: float = 10  # Talos' shutdown sequence (an estimate)
    reset_disk_s: float = 15  # wiping STATE and EPHEMERAL (an estimate)
    service_s: float = 3  # a Talos service becoming ready (an estimate)
    image_pull_s: float = 20  # pulling one image in a house's network (an estimate)
    pod_start_s: float = 2  # a pod becoming Ready once its image is there (an estimate)
    etcd_start_s: float = 5  # (an estimate)
    vip_s: float = 5  # the shared address moving to another control plane (an estimate)
    kubelet_s: float = 10  # kubelet start to the Node's registration (an estimate)
    upgrade_s: float = 60  # writing the other boot slot (an estimate)
    bmc_boot_s: float = 25  # the BMC's own Linux (an estimate)
    bmc_reload_s: float = 2  # bmcd starting (an estimate)
    power_write_s: float = 3  # the stored power bits are written this late (facts A7)
    send_window_s: float = 10  # an upload must begin within (facts A6.2)


class MachineSpec(Part):
    """A module in a slot, as bought: what its labels say and what the router's DHCP gives it."""

    name: str
    mac: str
    address: IPv4Address
    module: Literal["rk1", "cm4"] = "rk1"
    disk_bytes: int = 32_000_000_000
    link: str = "end0"
    memory_bytes: int = 8 << 30
    cpus: int = 8

    @property
    def serial(self) -> str:
        """The serial number that the module's firmware tells, made from its MAC."""
        return self.mac.replace(":", "")

    @property
    def disk(self) -> str:
        """The kernel's name of the eMMC."""
        return "/dev/mmcblk0"


class BoardSpec(Part):
    """A Turing Pi 2 with its BMC; a slot that is not named is empty."""

    address: IPv4Address
    port: int = 443
    http_port: int | None = None  # the redirect of facts A2; needs the right to bind port 80
    firmware: str = "v2.1.0"
    revision: Literal["v2.4", "v2.5"] = "v2.4"
    username: str = "root"
    password: str = "turing"  # noqa: S105 - the one that every board is sold with
    loopback_auth: bool = True  # a real bmcd skips authentication for loopback peers; here all peers are loopback
    slots: dict[int, MachineSpec] = Field(default_factory=dict)

    @property
    def version(self) -> tuple[int, int]:
        """Major and minor number of the firmware."""
        major, minor = self.firmware.removeprefix("v").split(".")[:2]
        return int(major), int(minor)


class FactorySpec(Part):
    """The Image Factory of this lab."""

    address: IPv4Address
    port: int = 8080
    image_bytes: int = 4 << 20


class FaultSpec(Part):
    """A fault that is armed from the start; `python -m twin fault --list` has the names."""

    name: str
    node: str | None = None
    board: str | None = None
    times: int = 1
    at: str | None = None
    params: dict[str, Any] = Field(default_factory=dict)


class LabSpec(Part):
    """The lab file: the truth about the hardware, independent from anybody's settings."""

    name: str
    scale: float = Field(default=0.01, ge=0)
    subnet: IPv4Network
    factory: FactorySpec
    talos_versions: tuple[str, ...] = ("v1.9.6", "v1.10.9", "v1.11.6", "v1.12.11", "v1.13.8", "v1.13.9")
    installers: dict[str, str] = Field(default_factory=dict)  # installers built elsewhere: reference -> Talos version
    operating_system: Literal["talos", "none"] = "talos"  # `none`: nothing follows the bootloader
    mdns: bool = False  # whether its boards announce their names, on loopback as everything here
    times: Times = Times()
    boards: dict[str, BoardSpec]
    faults: tuple[FaultSpec, ...] = ()

    @model_validator(mode="after")
    def _distinct(self) -> "LabSpec":
        machines = [machine for board in self.boards.values() for machine in board.slots.values()]
        for what in ("name", "mac", "address"):
            values = [getattr(machine, what) for machine in machines]
            if len(set(values)) != len(values):
                raise ValueError(f"two modules have the same {what}")
        if any(slot not in (1, 2, 3, 4) for board in self.boards.values() for slot in board.slots):
            raise ValueError("a board has the slots 1 to 4")
        return self

    @property
    def machines(self) -> Iterator[tuple[str, int, MachineSpec]]:
        """Every module with its board and slot."""
        for name, board in self.boards.items():
            for slot, machine in board.slots.items():
                yield name, slot, machine


def load(path: Path, scale: float | None = None) -> LabSpec:
    """The lab of a file. Raises pydantic's ValidationError, which names every mistake."""
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    if scale is not None:
        raw["scale"] = scale
    return LabSpec.model_validate(raw)


class Lab:
    """What the running parts of one twin share."""

    def __init__(self, spec: LabSpec, folder: Path, tools: Path | None = None) -> None:
        self.spec = spec
        self.folder = folder
        self.tools = tools
        self.clock = Clock(spec.scale)
        self.events = Events(folder / "events.jsonl")
        self.faults = Faults()
        self.machines: dict[str, Machine] = {}
        self.registry: dict[str, Any] = {}  # shared by all booted systems: discovery, the VIP's holder, ...
        self._tasks = Tasks()
        self.faults.on_taken = self._say
        self.events.listen(self.faults.seen)
        for fault in spec.faults:
            self.faults.arm(Fault(**fault.model_dump()))

    @property
    def times(self) -> Times:
        """The device times of this lab."""
        return self.spec.times

    @property
    def subnet(self) -> IPv4Network:
        """The LAN."""
        return self.spec.subnet

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run a coroutine of its own; if it fails, the twin's log has the traceback."""
        return self._tasks.spawn(work, name)

    async def close(self) -> None:
        """End everything that was spawned and close the journal."""
        await self._tasks.end()
        self.events.close()

    def _say(self, fault: Fault) -> None:
        self.events.emit("fault", node=fault.node, board=fault.board, fault=fault.name)
