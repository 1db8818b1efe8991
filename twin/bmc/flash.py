"""Writing a module's disk: bmcd's one transfer slot a board, with its states and races (facts A6)."""

import asyncio
import hashlib
import lzma
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from twin.bmc.flaws import Flaws
from twin.bmc.transfer import Broken, Failed, FlashRefused, Transfer
from twin.board import Board
from twin.faults import Fault
from twin.image import Reader
from twin.lab import Lab

_BLOCK_BYTES = 512 << 10
_XZ_MEMORY_BYTES = 100 << 20  # about the BMC's free RAM
NO_USB = "Compute module's USB interface not found or supported"
CANCELLED = "cancelled by user"


class Flasher:
    """The transfer slot of one board's BMC."""

    def __init__(self, lab: Lab, board: Board, crash: Callable[[float | None], None]) -> None:
        self.lab = lab
        self.board = board
        self.kill = crash
        self._state: Any = "Ready"
        self._stale: Any = None
        self._stale_polls = 0
        self._transfer: Transfer | None = None
        self._work: asyncio.Task[None] | None = None
        self._window: asyncio.Task[None] | None = None
        self.flashes = 0

    def start(self, transfer: Transfer, source: AsyncIterator[bytes] | None = None) -> int:
        """Begin a transfer and give its handle; whatever runs is cancelled without a word."""
        self._state_before_start()
        self._abort("transfer canceled")
        self._transfer = transfer
        self.flashes += 1
        if transfer.slot is not None:
            self._emit("flash_started", transfer, bytes=transfer.length)
        self._work = self.lab.spawn(self._run(transfer), f"flash {self.board.name}")
        if source is None:
            self._window = self.lab.spawn(self._send_window(transfer), f"send window {self.board.name}")
        else:
            self.lab.spawn(self._pull(transfer, source), f"flash source {self.board.name}")
        return transfer.handle

    def status(self) -> Any:
        """The answer to a progress poll, as bmcd's JSON."""
        if self._stale_polls > 0:
            self._stale_polls -= 1
            return self._stale
        transfer = self._transfer
        if transfer is None:
            return self._state
        shown = {"id": transfer.handle, "process_name": transfer.process, "size": transfer.length}
        return {"Transferring": {**shown, "cancelled": False, "bytes_written": transfer.written}}

    def claim(self, handle: int) -> Transfer:
        """The transfer that an upload belongs to; a handle works once. Raises FlashRefused."""
        transfer = self._transfer
        if transfer is None:
            state = self._state if isinstance(self._state, str) else next(iter(self._state))
            raise FlashRefused(f"cannot execute command in current state. current={state}, expected=Transferring")
        if transfer.handle != handle or transfer.began:
            raise FlashRefused("unauthorized request for handle")
        transfer.began = True
        return transfer

    async def put(self, transfer: Transfer, data: bytes) -> None:
        """Hand over the next bytes of an upload; waits while the disk is slower. Raises FlashRefused or Broken."""
        transfer.received += len(data)
        if transfer.received > transfer.length:
            self._abort(CANCELLED)
            raise Broken
        await self._hand_over(transfer, data)

    async def end(self, transfer: Transfer) -> None:
        """The upload's body is over. Raises FlashRefused when bytes are missing or the worker failed."""
        missing = transfer.length - transfer.received
        if missing and transfer is self._transfer:
            self._abort(CANCELLED)
            raise FlashRefused(f"missing {_human(missing)} bytes")
        await self._hand_over(transfer, None)

    def cancel(self) -> None:
        """Cancel everything; even an idle BMC shows an error afterwards."""
        self._abort(CANCELLED)
        self._state = {"Error": CANCELLED}

    def give_up(self, transfer: Transfer) -> None:
        """The sender is gone in the middle of its upload."""
        if transfer is self._transfer:
            self._abort(CANCELLED)

    def crash(self) -> None:
        """A dead bmcd: nothing is cleaned up, and the next one is Ready."""
        for task in (self._work, self._window):
            if task is not None:
                task.cancel()
        if self._transfer is not None:
            self._transfer.killed = True
        self._transfer, self._state, self.flashes = None, "Ready", 0

    async def _hand_over(self, transfer: Transfer, data: bytes | None) -> None:
        while transfer.error is None and not transfer.killed:
            if not transfer.channel.full():
                transfer.channel.put_nowait(data)
                return
            try:
                async with asyncio.timeout(0.1):
                    await transfer.channel.put(data)
                return
            except TimeoutError:
                continue
        if transfer.error is None:
            raise Broken
        raise FlashRefused(transfer.error)

    async def _pull(self, transfer: Transfer, source: AsyncIterator[bytes]) -> None:
        transfer.began = transfer.pulled = True
        try:
            async for data in source:
                await self.put(transfer, data)
            await self.end(transfer)
        except (FlashRefused, Broken):
            return  # the status tells it; nobody waits for a request

    async def _send_window(self, transfer: Transfer) -> None:
        window_s = self.lab.clock.real_s(self.lab.times.send_window_s, floor_s=1.5)
        if self.take("flash-send-timeout", transfer):
            window_s = 0
            transfer.handle ^= 1  # whoever sends with the handle that was given is too late
        await asyncio.sleep(window_s)
        if not transfer.began and transfer is self._transfer:
            self._abort("Send timeout")

    async def _run(self, transfer: Transfer) -> None:
        try:
            if transfer.slot is None:
                await self._receive(transfer, Reader)
            else:
                await self._flash(transfer, transfer.slot)
        except Failed as failure:
            self._finish(transfer, {"Error": str(failure)})
            return
        elapsed_ns = int((time.monotonic() - transfer.started) * 1e9)
        took = {"secs": elapsed_ns // 10**9, "nanos": elapsed_ns % 10**9}
        if transfer.slot is not None:
            self._emit("flash_done", transfer, bytes=transfer.length)
        self._finish(transfer, {"Done": [took, transfer.length]})

    async def _flash(self, transfer: Transfer, slot: int) -> None:
        self.board.to_usb(slot)
        await self.lab.clock.sleep(self.lab.times.usb_boot_s)
        await self._find_usb(transfer, slot)
        transfer.owns_node = True
        disk = self.board.machines[slot].disk
        written = await self._receive(transfer, disk.begin_write)
        await self._read_back(transfer)
        disk.end_write(written)

    async def _find_usb(self, transfer: Transfer, slot: int) -> None:
        """Fail as bmcd does, before its own cleanup: power 1 and USB in Flash stay as they are."""
        machine = self.board.machines.get(slot)
        if self.take("usb-boot-fails", transfer):
            self.board.confuse_power(slot)
        elif machine is not None and not machine.dead:
            self.board.pins.discard(slot)
            return
        else:
            self.board.pins.discard(slot)
        while transfer.pulled or not transfer.began:  # Transferring for ever, or until the send window is over
            await asyncio.sleep(0.05)
        raise Failed(NO_USB)

    async def _receive(self, transfer: Transfer, begin: Callable[[], Reader]) -> Reader:
        """Write what comes; the disk is untouched until the first byte is there."""
        disk: Reader | None = None
        digest = hashlib.sha256()
        unpack = lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY_BYTES) if transfer.xz else None
        flaws = Flaws(self, transfer)
        began, arrived = time.monotonic(), 0
        while (data := await transfer.channel.get()) is not None:
            disk = disk or begin()
            digest.update(data)
            arrived += len(data)
            for block in _unpacked(unpack, data):
                disk.feed(flaws.on_disk(block))
                transfer.written += len(block)
            await flaws.after(arrived)
            await self._pace(began, arrived / max(transfer.length, 1))
        if transfer.sha256 and digest.hexdigest() != transfer.sha256:
            raise Failed(f"sha256 checksum failed. Expected: {transfer.sha256}, got: {digest.hexdigest()}")
        return disk or begin()

    async def _pace(self, began: float, share: float) -> None:
        due = began + self.lab.clock.real_s(self.lab.times.flash_s) * share
        await asyncio.sleep(max(due - time.monotonic(), 0))

    async def _read_back(self, transfer: Transfer) -> None:
        if transfer.skip_crc:
            return
        size, transfer.written = transfer.written, 0
        steps = 20
        for step in range(1, steps + 1):
            await self.lab.clock.sleep(self.lab.times.crc_s / steps)
            transfer.written = size * step // steps
        if self.take("flash-crc-error", transfer):
            raise Failed("Crc64 checksum failed")

    def _abort(self, error: str) -> None:
        """End what runs. A worker that owns a node leaves it off; one that never found it leaves it on."""
        transfer = self._transfer
        if transfer is None:
            return
        if self._work is not None and self._work is not asyncio.current_task():
            self._work.cancel()
        self._finish(transfer, {"Error": error})

    def _finish(self, transfer: Transfer, state: Any) -> None:
        if self._window is not None and self._window is not asyncio.current_task():
            self._window.cancel()
        if "Error" in state:
            transfer.error = state["Error"]
            self._emit("flash_failed", transfer, error=transfer.error)
        if transfer.slot is not None and transfer.owns_node:
            self.board.from_usb(transfer.slot)
        self._transfer, self._state = None, state

    def _state_before_start(self) -> None:
        fault = self.lab.faults.take("flash-stale-done", board=self.board.name)
        if fault is not None:
            self._stale = {"Done": [{"secs": 312, "nanos": 5}, 1306525696]}
            self._stale_polls = int(fault.number("polls", 3))

    def take(self, name: str, transfer: Transfer) -> Fault | None:
        """The fault that goes off for this transfer."""
        return self.lab.faults.take(name, board=self.board.name, node=self._node(transfer))

    def _node(self, transfer: Transfer) -> str | None:
        machine = self.board.machines.get(transfer.slot or 0)
        return machine.name if machine else None

    def _emit(self, kind: str, transfer: Transfer, **data: object) -> None:
        self.lab.events.emit(
            kind, node=self._node(transfer), board=self.board.name, slot=transfer.slot, id=transfer.handle, **data
        )


def _unpacked(unpack: lzma.LZMADecompressor | None, data: bytes) -> Iterator[bytes]:
    if unpack is None:
        yield data
        return
    try:
        yield unpack.decompress(data, _BLOCK_BYTES)
        while not unpack.needs_input and not unpack.eof:
            yield unpack.decompress(b"", _BLOCK_BYTES)
    except (lzma.LZMAError, EOFError) as error:
        raise Failed(f"xz: {error}") from None


def _human(size: int) -> str:
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.2f}".rstrip("0").rstrip(".") + f" {unit}"
    return f"{size} B"
