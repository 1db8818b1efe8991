"""The faults of a transfer, each at its byte."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from twin.bmc.transfer import Failed, Transfer

if TYPE_CHECKING:
    from twin.bmc.flash import Flasher


class Flaws:
    """The faults that were taken for this transfer, each at its byte."""

    def __init__(self, flasher: Flasher, transfer: Transfer) -> None:
        self._flasher = flasher
        self._transfer = transfer
        names = ("flash-error", "flash-stall", "flash-hijack", "bmc-oom", "flash-corrupt", "flash-done-early")
        taken = {name: flasher.take(name, transfer) for name in names}
        self._armed = {name: fault for name, fault in taken.items() if fault is not None}
        leak = flasher.lab.faults.active("bmc-leak", board=flasher.board.name)
        if leak is not None and flasher.flashes >= leak.number("count", 2):
            self._armed["bmc-oom"] = leak

    def on_disk(self, block: bytes) -> bytes:
        """What really reaches the disk of a block."""
        if "flash-corrupt" in self._armed and self._transfer.written <= self._transfer.length // 2:
            block = block[:-1] + bytes([block[-1] ^ 1])
        if "flash-done-early" in self._armed and self._transfer.written > self._transfer.length // 2:
            return b""
        return block

    async def after(self, arrived: int) -> None:
        """What happens once this many bytes have come."""
        due = [name for name, fault in self._armed.items() if arrived >= fault.number("after_bytes", 1)]
        if "flash-error" in due:
            raise Failed("error writing to disk: Input/output error (os error 5)")
        if "flash-stall" in due:
            await asyncio.Event().wait()
        if "flash-hijack" in due:
            other = Transfer(self._transfer.slot, "somebody-else.raw", self._transfer.length)
            del self._armed["flash-hijack"]
            self._flasher.lab.spawn(self._hijack(other), "hijack")
            await asyncio.Event().wait()
        if "bmc-oom" in due:
            fault = self._armed["bmc-oom"]
            self._flasher.kill(fault.number("for_s", 0) or None)
            await asyncio.Event().wait()

    async def _hijack(self, other: Transfer) -> None:
        self._flasher.start(other)
