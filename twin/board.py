"""A Turing Pi 2 board: four slots, their power bits, the USB bus. What its BMC says over HTTP is `twin.bmc`."""

import json
from dataclasses import dataclass
from enum import Enum

from twin.disk import write
from twin.faults import Fault
from twin.lab import BoardSpec, Lab
from twin.machine import Machine

SLOTS = (1, 2, 3, 4)


class UsbMode(Enum):
    """What a node's USB port is (facts A5, `type=usb`); the numbers are the API's."""

    HOST = 0
    DEVICE = 1
    FLASH = 2


@dataclass(frozen=True)
class Usb:
    """Where the board's one USB bus goes."""

    mode: UsbMode = UsbMode.DEVICE
    slot: int = 1
    to_bmc: bool = False


class Board:
    """The board's hardware, as bmcd drives it. Slots count from 1 here."""

    def __init__(self, lab: Lab, name: str, spec: BoardSpec) -> None:
        self.lab = lab
        self.name = name
        self.spec = spec
        self.machines = {slot: Machine(lab, module, name, slot) for slot, module in spec.slots.items()}
        self.power = dict.fromkeys(SLOTS, False)  # the wish that bmcd reports, not what was measured
        self.pins: set[int] = set()  # raised usb-boot pins
        self.usb = self._usb_before = Usb()
        self.node_info: dict[int, dict[str, object]] = {slot: {} for slot in SLOTS}
        self.fan_speed = 2
        self._store = lab.folder / "boards" / name / "power.json"
        self._store.parent.mkdir(parents=True, exist_ok=True)
        lab.faults.on_now("node-mended", self._mended)

    def set_power(self, slot: int, on: bool) -> None:
        """Switch a slot and remember the wish; a slot that is on already is left alone."""
        self.power[slot] = on
        self.switch(slot, on)
        self.lab.spawn(self._write_later(), f"power bits {self.name}")

    def switch(self, slot: int, on: bool) -> None:
        """Give or take a slot's power without remembering it."""
        machine = self.machines.get(slot)
        if machine is None:
            return
        if not on:
            machine.power_off()
        elif slot in self.pins:
            machine.usb_boot()
        else:
            machine.power_on()

    def to_usb(self, slot: int) -> None:
        """Restart a slot with its USB boot pin raised and route its USB to the BMC."""
        self._usb_before = self.usb
        self.usb = Usb(UsbMode.FLASH, slot, to_bmc=True)
        self.pins.add(slot)
        self.power[slot] = True
        machine = self.machines.get(slot)
        if machine is not None:
            machine.power_off()
            machine.usb_boot()

    def from_usb(self, slot: int) -> None:
        """After a flash, good or bad: the node is off, USB is as it was (facts A6.5)."""
        self.usb = self._usb_before
        self.pins.discard(slot)
        self.set_power(slot, False)

    def confuse_power(self, slot: int) -> None:
        """BMC-Firmware issue 226: after a failed USB boot the wishes of the other slots are lost, not their power."""
        self.power = {other: on and other == slot for other, on in self.power.items()}

    def cut(self) -> None:
        """All slots lose their power; the wishes stay."""
        for machine in self.machines.values():
            machine.power_off()

    def load(self) -> None:
        """What bmcd does when it starts: read the stored bits and apply them to all four slots (facts A7)."""
        stored = json.loads(self._store.read_bytes()) if self._store.exists() else {}
        self.power = {slot: bool(stored.get(str(slot), False)) for slot in SLOTS}
        self.pins.clear()
        self.usb = Usb()
        for machine in self.machines.values():
            machine.forget_uart()
        if self.spec.revision == "v2.4":
            self.cut()
        for slot, on in self.power.items():
            self.switch(slot, on)

    def store(self) -> None:
        """Write the wishes now."""
        write(self._store, json.dumps(self.power).encode())

    async def _write_later(self) -> None:
        await self.lab.clock.sleep(self.lab.times.power_write_s)
        self.store()

    def _mended(self, fault: Fault) -> None:
        for slot, machine in self.machines.items():
            if fault.node == machine.name:
                machine.dead = False
                self.switch(slot, self.power[slot])
