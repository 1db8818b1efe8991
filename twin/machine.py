"""A module in a slot: power, boot, reboot, halt. What boots on it is `twin.talos.os`."""

import asyncio
import importlib
import uuid
from enum import Enum
from typing import Protocol, cast

from twin.disk import Content, Disk
from twin.faults import Fault
from twin.lab import Lab, MachineSpec

UART_BYTES = 16 << 10
UPGRADE = 6  # META's tag that the other slot was written and has not proved itself yet
_OVERLAY = {"rk1": "turingrk1", "cm4": "rpi_generic"}  # what its boot loader and device tree come from (facts B8)
_LOADER = {"rk1": "U-Boot 2024.10 (Turing RK1)", "cm4": "Raspberry Pi Bootloader (CM4)"}


class OperatingSystem(Protocol):
    """What `twin.talos.os.boot(machine)` gives: it runs until its task ends or the machine cuts its power.

    `boot` is a plain function that is called on the running loop and returns at once; `task` is its whole life.
    A reboot or a halt that it wants itself goes through `await machine.reboot()` and `await machine.halt()`.
    """

    task: asyncio.Task[None]

    def power_cut(self) -> None:
        """Kill the node's processes and close its sockets, at once and without cleaning up any data.

        Called exactly once for each boot, at whatever end (power cut, reboot, halt), just before `task` is cancelled.
        """


class Phase(Enum):
    """Where a machine is."""

    OFF = "off"
    USB = "usb"  # powered, its disk exposed to the BMC
    LOADER = "loader"  # the boot loader runs, or has nothing to boot
    RUNNING = "running"  # the operating system was started
    HALTED = "halted"  # powered and dead, until the BMC takes its power


class Machine:
    """A module. The BMC calls `power_on`, `power_off` and `usb_boot`; the system on it `reboot`, `halt` and `uart`."""

    def __init__(self, lab: Lab, spec: MachineSpec, board: str, slot: int) -> None:
        self.lab = lab
        self.spec = spec
        self.board = board
        self.slot = slot
        self.disk = Disk(lab.folder / "disks" / spec.name, spec.disk_bytes, spec.disk)
        self.phase = Phase.OFF
        self.dead = False
        self._supplied = False  # what the slot gives, whatever a fault does to it
        self.boot_id = ""
        self.boots = 0
        self._uart = bytearray()
        self._system: OperatingSystem | None = None
        self._sequence: asyncio.Task[None] | None = None
        lab.machines[spec.name] = self
        lab.faults.on_now("power-cut", self._power_cut_fault)
        lab.faults.on_now("node-dead", self._dead_fault)

    @property
    def name(self) -> str:
        """The lab's name of the module."""
        return self.spec.name

    @property
    def powered(self) -> bool:
        """Whether the slot gives it power."""
        return self.phase is not Phase.OFF

    def power_on(self) -> None:
        """Give it power; does nothing when it has it."""
        self._supplied = True
        if self.phase is Phase.OFF and not self.dead:
            self._emit("power_on")
            self._start()

    def power_off(self) -> None:
        """Take its power: everything on it stops at once."""
        self._supplied = False
        self._lose_power()

    def _lose_power(self) -> None:
        if self.phase is not Phase.OFF:
            self._stop(Phase.OFF)
            self._emit("power_off")

    def usb_boot(self) -> None:
        """Power it with the USB boot pin raised: the BMC sees its disk, and nothing boots."""
        self._stop(Phase.OFF if self.dead else Phase.USB)

    async def reboot(self) -> None:
        """Restart (from the system itself): the calling task is cancelled at its next await."""
        self._emit("rebooting")
        self._leave(Phase.LOADER, then_start=True)

    async def halt(self) -> None:
        """Stop and stay powered (from the system itself); only a power cycle by the BMC brings it back."""
        self.uart("reboot: System halted\n")
        self._emit("halted")
        self._leave(Phase.HALTED, then_start=False)

    def uart(self, text: str) -> None:
        """Add text to the serial console; the BMC keeps the last 16 KiB."""
        self._uart += text.replace("\n", "\r\n").encode()
        del self._uart[:-UART_BYTES]

    def uart_bytes(self) -> bytes:
        """What the BMC holds of the serial console: neither reading nor the module's power clears it."""
        return bytes(self._uart)

    def forget_uart(self) -> None:
        """The ring is in bmcd's memory: a new bmcd starts with an empty one."""
        self._uart.clear()

    def uart_input(self, text: str) -> None:
        """What somebody types at the serial console: Talos only echoes it."""
        if self.powered:
            self.uart(text + "\n")

    def _start(self) -> None:
        self.phase = Phase.LOADER
        self._sequence = self.lab.spawn(self._boot(), f"boot {self.name}")

    async def _boot(self) -> None:
        image = self.disk.image
        if self.disk.content is Content.BLANK or (image and image.overlay != _OVERLAY[self.spec.module]):
            self._emit("boot_failed", reason="no boot loader for this module on the disk")
            return  # nothing that this module could start: the serial line stays silent
        self.uart(f"\n{_LOADER[self.spec.module]}\n")
        if image is None:
            self.uart("** Invalid partition table **\nERROR: no bootable image on mmc 0, resetting ...\n")
            self._emit("boot_failed", reason="damaged")
            return
        self._begin(image.version)
        await self.lab.clock.sleep(self.lab.times.boot_s)
        self._run()

    def _begin(self, version: str) -> None:
        if self.lab.faults.take("disk-renamed", node=self.name):
            self.disk.device = "/dev/mmcblk1" if self.disk.device.endswith("0") else "/dev/mmcblk0"
            self.disk.save()
        self.boot_id = str(uuid.uuid4())
        self.boots += 1
        self._emit("boot_started", boot_id=self.boot_id)
        self.uart(
            f"Retrieving file: /{self.disk.label}/vmlinuz\nStarting kernel ...\n"
            f"[    0.000000] Linux version 6.12 (talos {version})\n"
        )

    def _run(self) -> None:
        self._sequence = None
        if self.lab.faults.take("boot-hangs", node=self.name) or self._new_slot_hangs():
            self.uart("[    3.141592] random: crng init done\n")
            return
        self.phase = Phase.RUNNING
        if self.lab.spec.operating_system == "talos":
            module = importlib.import_module("twin.talos.os")
            self._system = cast(OperatingSystem, module.boot(self))

    def _new_slot_hangs(self) -> bool:
        """Whether the kernel that an upgrade has just written never comes up: nothing goes back by itself then."""
        fresh = UPGRADE in self.disk.meta
        return fresh and self.lab.faults.take("upgrade-never-boots", node=self.name) is not None

    def _stop(self, phase: Phase) -> None:
        """Everything that runs on it ends now."""
        self.phase = phase
        if self._sequence is not None:
            self._sequence.cancel()
            self._sequence = None
        if self._system is not None:
            system, self._system = self._system, None
            system.power_cut()
            system.task.cancel()

    def _leave(self, phase: Phase, *, then_start: bool) -> None:
        if self.phase is Phase.RUNNING:
            self._stop(phase)
            if then_start:
                self._start()

    def _emit(self, kind: str, **data: object) -> None:
        self.lab.events.emit(kind, node=self.name, board=self.board, slot=self.slot, **data)

    def _power_cut_fault(self, fault: Fault) -> None:
        if fault.node == self.name and self.powered:
            self._lose_power()
            self.lab.spawn(self._power_returns(fault.number("for_s", 1)), f"power cut {self.name}")

    async def _power_returns(self, after_s: float) -> None:
        await self.lab.clock.sleep(after_s)
        if self._supplied:
            self.power_on()

    def _dead_fault(self, fault: Fault) -> None:
        if fault.node == self.name:
            self._lose_power()
            self.dead = True
