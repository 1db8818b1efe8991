"""The twin as it runs: all boards, the factory, and the control socket that the command line speaks to."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from twin.bmc import api, v1
from twin.bmc.daemon import Daemon
from twin.bmc.mdns import Responder
from twin.board import Board
from twin.client import Refused
from twin.disk import write
from twin.factory import Factory
from twin.faults import Fault, UnknownFault
from twin.lab import Lab, LabSpec, load

log = logging.getLogger("twin")
_LONGEST_SOCKET_PATH = 100  # the kernel takes 107 bytes


class Twin:
    """One lab in one process."""

    def __init__(self, spec: LabSpec, folder: Path, tools: Path | None) -> None:
        self.lab = Lab(spec, folder, tools)
        self.boards = {name: Board(self.lab, name, board) for name, board in spec.boards.items()}
        self.daemons = {name: self._daemon(board) for name, board in self.boards.items()}
        self.factory = Factory(self.lab)
        self.names = Responder(self.boards.values() if spec.mdns else ())
        self.lab.registry["factory"] = self.factory
        self._started = time.time()
        self._ended = asyncio.Event()
        self._control: asyncio.Server | None = None

    async def run(self) -> None:
        """Start everything, wait for `down` or a signal, end everything. Raises Refused."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ended.set)
        try:
            await self._listen()
            await self._ended.wait()
        finally:
            await self._close()

    def status(self) -> dict[str, Any]:
        """What there is: boards, modules, armed faults. Nothing secret."""
        return {
            "lab": self.lab.spec.name,
            "pid": os.getpid(),
            "scale": self.lab.spec.scale,
            "up_s": round(time.time() - self._started, 1),
            "factory": f"http://{self.lab.spec.factory.address}:{self.lab.spec.factory.port}",
            "boards": {name: self._board(name, board) for name, board in self.boards.items()},
            "faults": [{**asdict(fault), "params": sorted(fault.params)} for fault in self.lab.faults.armed],
        }

    def _daemon(self, board: Board) -> Daemon:
        application = v1.application if board.spec.version < (2, 0) else api.application
        return Daemon(self.lab, board, application, api.redirect)

    def _board(self, name: str, board: Board) -> dict[str, Any]:
        scheme = "http" if board.spec.version < (2, 0) else "https"
        modules = {
            machine.name: {
                "slot": slot,
                "address": str(machine.spec.address),
                "power": board.power[slot],
                "phase": machine.phase.value,
                "disk": machine.disk.content.value,
                "talos": machine.disk.image.version if machine.disk.image else None,
                "boots": machine.boots,
                "boot_id": machine.boot_id,
                "dead": machine.dead,
            }
            for slot, machine in board.machines.items()
        }
        url = f"{scheme}://{board.spec.address}:{board.spec.port}"
        return {"url": url, "firmware": board.spec.firmware, "up": self.daemons[name].listening, "modules": modules}

    async def _listen(self) -> None:
        try:
            await self.factory.start()
            for daemon in self.daemons.values():
                await daemon.start()
        except OSError as error:
            raise Refused(
                f"{error.strerror or error}; a port that is taken belongs to another twin (`python -m twin down`), "
                "one below 1024 needs root: choose another in the lab file"
            ) from None
        await self.names.start()
        socket = _socket_path(self.lab.folder)
        socket.unlink(missing_ok=True)
        self._control = await asyncio.start_unix_server(self._serve, str(socket))
        socket.chmod(0o600)
        record = {"pid": os.getpid(), "control": str(socket), "lab": self.lab.spec.name}
        write(self.lab.folder / "twin.json", json.dumps(record).encode())
        self.lab.events.emit("twin_up", lab=self.lab.spec.name, scale=self.lab.spec.scale)
        log.info("lab %s is up", self.lab.spec.name)

    async def _close(self) -> None:
        """Like pulling the plug of the whole lab: nothing is shut down gently, nothing is left running."""
        for board in self.boards.values():
            board.cut()
        for daemon in self.daemons.values():
            await daemon.close()
        await self.factory.close()
        await self.names.close()
        if self._control is not None:
            self._control.close()
        self.lab.events.emit("twin_down")
        await self.lab.close()
        _socket_path(self.lab.folder).unlink(missing_ok=True)
        (self.lab.folder / "twin.json").unlink(missing_ok=True)
        log.info("down")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while not self._ended.is_set() and (line := await reader.readline()):
                writer.write(json.dumps(self._answer(line)).encode() + b"\n")
                await writer.drain()
        writer.close()

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            asked = json.loads(line)
            return {"ok": True, "result": self._command(asked["command"], asked)}
        except UnknownFault as error:
            return {"ok": False, "error": str(error)}
        except (ValueError, KeyError, TypeError) as error:
            return {"ok": False, "error": f"not understood: {type(error).__name__} {error}"}

    def _command(self, command: str, asked: dict[str, Any]) -> Any:
        match command:
            case "status":
                return self.status()
            case "fault":
                self.lab.faults.arm(Fault(**asked["fault"]))
                return "armed"
            case "clear":
                return self.lab.faults.clear(asked.get("name"))
            case "down":
                self._ended.set()
                return "going down"
        raise ValueError(command)


def _socket_path(folder: Path) -> Path:
    path = folder.resolve() / "control.sock"
    if len(str(path)) < _LONGEST_SOCKET_PATH:
        return path
    return Path(tempfile.gettempdir()) / f"twin-{os.getpid()}.sock"


def serve(file: Path, scale: float | None, folder: Path, tools: Path | None) -> None:
    """Run the twin of a lab file in this process until it is ended. Raises Refused with all that is wrong.

    What is logged, the failure of every coroutine included, goes to stderr, which is `twin.log` of a daemon.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        spec = load(file, scale)
    except ValidationError as error:
        problems = [f"{file}: {'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors()]
        raise Refused("\n".join(problems)) from None

    async def run() -> None:
        await Twin(spec, folder, tools).run()

    try:
        asyncio.run(run())
    except UnknownFault as error:
        raise Refused(str(error)) from None
