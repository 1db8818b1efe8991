"""Writing a module's disk: bmcd's one transfer slot a board, with its states and races (facts A6)."""

import asyncio
import hashlib
import lzma
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from twin.board import Board
from twin.faults import Fault
from twin.image import Reader
from twin.lab import Lab

_CHANNEL = 16  # bmcd pulls through a channel of this many chunks: the rest waits in TCP
_BLOCK_BYTES = 512 << 10
_XZ_MEMORY_BYTES = 100 << 20  # about the BMC's free RAM
NO_USB = "Compute module's USB interface not found or supported"
CANCELLED = "cancelled by user"


class FlashRefused(Exception):
    """A flash request that ends as HTTP 500 with this text."""


class Overrun(Exception):
    """More bytes than announced came: bmcd drops the connection."""


class _Failed(Exception):
    """The worker's error, as the status will show it."""


@dataclass
class Transfer:
    """One transfer from its start to its end."""

    slot: int | None  # None: the BMC's own firmware
    name: str
    length: int
    sha256: str = ""
    skip_crc: bool = False
    xz: bool = False
    handle: int = field(default_factory=lambda: secrets.randbelow(1 << 32))
    written: int = 0
    received: int = 0
    began: bool = False
    pulled: bool = False  # from a file on the BMC or a URL
    owns_node: bool = False
    error: str | None = None
    started: float = field(default_factory=time.monotonic)
    channel: asyncio.Queue[bytes | None] = field(default_factory=lambda: asyncio.Queue(_CHANNEL))

    @property
    def chunk_bytes(self) -> int:
        """How much is read from the sender at once: a channel full of it is a small part of any image."""
        return min(max(self.length >> 8, 4 << 10), 64 << 10)

    @property
    def process(self) -> str:
        """bmcd's name of the work; its nodes count from 1."""
        return "bmc upgrade service" if self.slot is None else f"Node {self.slot} os install service"


class Flasher:
    """The transfer slot of one board's BMC."""

    def __init__(self, lab: Lab, board: Board, crash: Callable[[float | None], None]) -> None:
        self._lab = lab
        self._board = board
        self._crash = crash
        self._state: Any = "Ready"
        self._stale: Any = None
        self._stale_polls = 0
        self._transfer: Transfer | None = None
        self._work: asyncio.Task[None] | None = None
        self._window: asyncio.Task[None] | None = None
        self._flashes = 0

    def start(self, transfer: Transfer, source: AsyncIterator[bytes] | None = None) -> int:
        """Begin a transfer and give its handle; whatever runs is cancelled without a word."""
        self._state_before_start()
        self._abort("transfer canceled")
        self._transfer = transfer
        self._flashes += 1
        if transfer.slot is not None:
            self._emit("flash_started", transfer, bytes=transfer.length)
        self._work = self._lab.spawn(self._run(transfer), f"flash {self._board.name}")
        if source is None:
            self._window = self._lab.spawn(self._send_window(transfer), f"send window {self._board.name}")
        else:
            self._lab.spawn(self._pull(transfer, source), f"flash source {self._board.name}")
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
        """Hand over the next bytes of an upload; waits while the disk is slower. Raises FlashRefused or Overrun."""
        transfer.received += len(data)
        if transfer.received > transfer.length:
            self._abort(CANCELLED)
            raise Overrun
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
        """bmcd is dead: nothing is cleaned up, and the next one is Ready."""
        for task in (self._work, self._window):
            if task is not None:
                task.cancel()
        if self._transfer is not None:
            self._transfer.error = "bmcd is gone"
        self._transfer, self._state, self._flashes = None, "Ready", 0

    async def _hand_over(self, transfer: Transfer, data: bytes | None) -> None:
        while transfer.error is None:
            if not transfer.channel.full():
                transfer.channel.put_nowait(data)
                return
            try:
                async with asyncio.timeout(0.1):
                    await transfer.channel.put(data)
                return
            except TimeoutError:
                continue
        raise FlashRefused(transfer.error)

    async def _pull(self, transfer: Transfer, source: AsyncIterator[bytes]) -> None:
        transfer.began = transfer.pulled = True
        try:
            async for data in source:
                await self.put(transfer, data)
            await self.end(transfer)
        except (FlashRefused, Overrun):
            return  # the status tells it; nobody waits for a request

    async def _send_window(self, transfer: Transfer) -> None:
        window_s = self._lab.clock.real_s(self._lab.times.send_window_s, floor_s=1.5)
        if self._take("flash-send-timeout", transfer):
            window_s = 0
            transfer.handle ^= 1  # whoever sends with the handle that was given is too late
        await asyncio.sleep(window_s)
        if not transfer.began and transfer is self._transfer:
            self._abort("Send timeout")

    async def _run(self, transfer: Transfer) -> None:
        try:
            if transfer.slot is None:
                await self._receive(transfer, Reader())
            else:
                await self._flash(transfer, transfer.slot)
        except _Failed as failure:
            self._finish(transfer, {"Error": str(failure)})
            return
        elapsed_ns = int((time.monotonic() - transfer.started) * 1e9)
        took = {"secs": elapsed_ns // 10**9, "nanos": elapsed_ns % 10**9}
        if transfer.slot is not None:
            self._emit("flash_done", transfer, bytes=transfer.length)
        self._finish(transfer, {"Done": [took, transfer.length]})

    async def _flash(self, transfer: Transfer, slot: int) -> None:
        self._board.to_usb(slot)
        await self._lab.clock.sleep(self._lab.times.usb_boot_s)
        await self._find_usb(transfer, slot)
        transfer.owns_node = True
        disk = self._board.machines[slot].disk
        written = disk.begin_write()
        await self._receive(transfer, written)
        await self._read_back(transfer)
        disk.end_write(written)

    async def _find_usb(self, transfer: Transfer, slot: int) -> None:
        """Fail as bmcd does, before its own cleanup: power 1 and USB in Flash stay as they are."""
        machine = self._board.machines.get(slot)
        if machine is not None and not machine.dead and not self._take("usb-boot-fails", transfer):
            self._board.pins.discard(slot)
            return
        if machine is None:
            self._board.pins.discard(slot)
        while transfer.pulled or not transfer.began:  # Transferring for ever, or until the send window is over
            await asyncio.sleep(0.05)
        raise _Failed(NO_USB)

    async def _receive(self, transfer: Transfer, disk: Reader) -> None:
        digest = hashlib.sha256()
        unpack = lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY_BYTES) if transfer.xz else None
        flaws = _Flaws(self, transfer)
        began, arrived = time.monotonic(), 0
        while (data := await transfer.channel.get()) is not None:
            digest.update(data)
            arrived += len(data)
            for block in _unpacked(unpack, data):
                disk.feed(flaws.on_disk(block))
                transfer.written += len(block)
            await flaws.after(arrived)
            await self._pace(began, arrived / max(transfer.length, 1))
        if transfer.sha256 and digest.hexdigest() != transfer.sha256:
            raise _Failed(f"sha256 checksum failed. Expected: {transfer.sha256}, got: {digest.hexdigest()}")

    async def _pace(self, began: float, share: float) -> None:
        due = began + self._lab.clock.real_s(self._lab.times.flash_s) * share
        await asyncio.sleep(max(due - time.monotonic(), 0))

    async def _read_back(self, transfer: Transfer) -> None:
        if transfer.skip_crc:
            return
        size, transfer.written = transfer.written, 0
        steps = 20
        for step in range(1, steps + 1):
            await self._lab.clock.sleep(self._lab.times.crc_s / steps)
            transfer.written = size * step // steps
        if self._take("flash-crc-error", transfer):
            raise _Failed("Crc64 checksum failed")

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
            self._board.from_usb(transfer.slot)
        self._transfer, self._state = None, state

    def _state_before_start(self) -> None:
        fault = self._lab.faults.take("flash-stale-done", board=self._board.name)
        if fault is not None:
            self._stale = {"Done": [{"secs": 312, "nanos": 5}, 1306525696]}
            self._stale_polls = int(fault.number("polls", 3))

    def _take(self, name: str, transfer: Transfer) -> Fault | None:
        return self._lab.faults.take(name, board=self._board.name, node=self._node(transfer))

    def _node(self, transfer: Transfer) -> str | None:
        machine = self._board.machines.get(transfer.slot or 0)
        return machine.name if machine else None

    def _emit(self, kind: str, transfer: Transfer, **data: object) -> None:
        self._lab.events.emit(
            kind, node=self._node(transfer), board=self._board.name, slot=transfer.slot, id=transfer.handle, **data
        )


class _Flaws:
    """The faults that were taken for this transfer, each at its byte."""

    def __init__(self, flasher: Flasher, transfer: Transfer) -> None:
        self._flasher = flasher
        self._transfer = transfer
        names = ("flash-error", "flash-stall", "flash-hijack", "bmc-oom", "flash-corrupt", "flash-done-early")
        taken = {name: flasher._take(name, transfer) for name in names}
        self._armed = {name: fault for name, fault in taken.items() if fault is not None}
        leak = flasher._lab.faults.active("bmc-leak", board=flasher._board.name)
        if leak is not None and flasher._flashes >= leak.number("count", 2):
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
            raise _Failed("error writing to disk: Input/output error (os error 5)")
        if "flash-stall" in due:
            await asyncio.Event().wait()
        if "flash-hijack" in due:
            other = Transfer(self._transfer.slot, "somebody-else.raw", self._transfer.length)
            del self._armed["flash-hijack"]
            self._flasher._lab.spawn(self._hijack(other), "hijack")
            await asyncio.Event().wait()
        if "bmc-oom" in due:
            fault = self._armed["bmc-oom"]
            self._flasher._crash(fault.number("for_s", 0) or None)
            await asyncio.Event().wait()

    async def _hijack(self, other: Transfer) -> None:
        self._flasher.start(other)


def _unpacked(unpack: lzma.LZMADecompressor | None, data: bytes) -> Iterator[bytes]:
    if unpack is None:
        yield data
        return
    try:
        yield unpack.decompress(data, _BLOCK_BYTES)
        while not unpack.needs_input and not unpack.eof:
            yield unpack.decompress(b"", _BLOCK_BYTES)
    except (lzma.LZMAError, EOFError) as error:
        raise _Failed(f"xz: {error}") from None


def _human(size: int) -> str:
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.2f}".rstrip("0").rstrip(".") + f" {unit}"
    return f"{size} B"
