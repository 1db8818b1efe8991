"""A twin in the test's own process: boards with their BMCs and names, modules with Talos, no servers of Kubernetes."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from twin.image import Image
from twin.lab import LabSpec
from twin.running import Twin
from twin.talos.registry import lan

T = TypeVar("T")
PASSWORD = "opens-nothing-else"
VERSION = "v1.13.9"
PORT = 8443


class House:
    """Boards at .60, .61, ...; the module in slot s of the n-th board at .(10n + s), from n = 1."""

    def __init__(self, folder: Path, boards: dict[str, dict[str, Any]], *, mdns: bool = False) -> None:
        self.net = f"127.{140 + os.getpid() % 90}.{random.SystemRandom().randrange(1, 254)}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.spec = LabSpec.model_validate(self._lab(boards, mdns=mdns))
        self.twin = self.run(self._started(folder))
        self.lab = self.twin.lab

    def _lab(self, boards: dict[str, dict[str, Any]], *, mdns: bool) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for number, (name, board) in enumerate(boards.items(), 1):
            slots = {
                slot: {
                    "name": f"{name}-{slot}",
                    "mac": f"02:00:00:00:0{number}:0{slot}",
                    "address": f"{self.net}.{10 * number + slot}",
                }
                for slot in board.get("modules", (1, 2, 3, 4))
            }
            rest = {key: value for key, value in board.items() if key != "modules"}
            made[name] = {"address": f"{self.net}.{59 + number}", "port": PORT, "password": PASSWORD, "slots": slots}
            made[name] |= rest
        factory = {"address": f"{self.net}.2", "image_bytes": 1 << 18}
        return {
            "name": "house",
            "scale": 0.002,
            "subnet": f"{self.net}.0/24",
            "factory": factory,
            "boards": made,
            "mdns": mdns,
        }

    async def _started(self, folder: Path) -> Twin:
        twin = Twin(self.spec, folder, None)
        await twin._listen()
        if twin.names._names is not None:
            await twin.names._names
        return twin

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float = 30) -> T:
        """Run something on the twin's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    def do(self, action: Callable[[], T]) -> T:
        """Call something on the twin's loop."""

        async def call() -> T:
            return action()

        return self.run(call())

    def address(self, board: str) -> str:
        """A board's address as settings have it."""
        spec = self.spec.boards[board]
        url = f"{spec.address}:{spec.port}"
        return f"http://{url}" if spec.version < (2, 0) else url

    def flashed(self, *modules: str, schematic: str = "abc") -> None:
        """Give modules an image and power through their boards' bits, and wait for maintenance mode."""
        for name in modules:
            machine = self.lab.machines[name]

            def start(name: str = name, machine: Any = machine) -> None:
                machine.disk.image = Image(schematic, VERSION, overlay="turingrk1")
                self.twin.boards[machine.board].set_power(machine.slot, True)

            self.do(start)
        self.until(lambda: all(self.stage(name) == "maintenance" for name in modules))

    def stage(self, module: str) -> str:
        """The stage of a module's system; "" while none answers."""

        def look() -> str:
            system = lan(self.lab).at(str(self.lab.machines[module].spec.address))
            return system.stage if system is not None and system.api.listening else ""

        return self.do(look)

    def until(self, condition: Callable[[], Any], timeout_s: float = 20) -> None:
        """Wait for something to become true."""
        end = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > end:
                raise AssertionError("waited in vain")
            time.sleep(0.02)

    def events(self, kind: str) -> int:
        """How often something happened so far."""
        return sum(f'"kind": "{kind}"' in line for line in (self.lab.folder / "events.jsonl").read_text().splitlines())

    def close(self) -> None:
        """Cut everything."""
        self.run(self.twin._close())
        self.run(asyncio.sleep(0.05))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextmanager
def house(folder: Path, boards: dict[str, dict[str, Any]] | None = None, *, mdns: bool = False) -> Iterator[House]:
    """A running house."""
    made = House(folder, boards if boards is not None else {"board1": {}}, mdns=mdns)
    try:
        yield made
    finally:
        made.close()
