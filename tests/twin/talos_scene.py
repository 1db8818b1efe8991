"""A lab inside the test's own process: machines, their systems, and a loop of their own to run on."""

import asyncio
import contextlib
import itertools
import os
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from tests.twin.talos_client import Node
from tests.twin.talos_config import Cluster
from twin.image import Image
from twin.lab import Lab, LabSpec
from twin.machine import Machine
from twin.talos.api import machine_pb2 as pb
from twin.talos.os import Os
from twin.talos.registry import lan

T = TypeVar("T")
_count = itertools.count(1)


class NotRunning(Exception):
    """No system runs on a machine."""


class Scene:
    """Machines m1, m2, ... at .11, .12, ...; the VIP of `cluster` is .10."""

    def __init__(
        self, machines: int, *, version: str = "v1.13.9", tools: Path | None = None, scale: float = 0.002
    ) -> None:
        self.net = f"127.{128 + os.getpid() % 100}.{next(_count)}"
        self.cluster = Cluster(f"{self.net}.10")
        self.version = version
        self._folder = tempfile.TemporaryDirectory()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.lab = self.run(self._make(machines, tools, scale))
        self.machines = dict(self.lab.machines)

    async def _make(self, machines: int, tools: Path | None, scale: float) -> Lab:
        slots = {
            slot: {"name": f"m{slot}", "mac": f"02:00:00:00:00:{slot:02}", "address": f"{self.net}.{10 + slot}"}
            for slot in range(1, machines + 1)
        }
        spec = LabSpec.model_validate(
            {
                "name": "scene",
                "scale": scale,
                "subnet": f"{self.net}.0/24",
                "factory": {"address": f"{self.net}.2"},
                "boards": {"board1": {"address": f"{self.net}.60", "slots": slots}},
            }
        )
        lab = Lab(spec, Path(self._folder.name), tools)
        for board, slot, machine in spec.machines:
            Machine(lab, machine, board, slot)
        return lab

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float = 60) -> T:
        """Run something on the lab's loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    def do(self, action: Callable[[], Any]) -> Any:
        """Call something on the lab's loop."""

        async def call() -> Any:
            return action()

        return self.run(call())

    def close(self) -> None:
        """Cut all power and end the loop."""
        for machine in self.machines.values():
            self.do(machine.power_off)
        self.run(asyncio.sleep(0.1))
        self.run(self.lab.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._folder.cleanup()

    def flash(self, name: str) -> None:
        """Give a machine an image and power."""
        machine = self.machines[name]

        def act() -> None:
            machine.disk.image = Image("abc", self.version, overlay="turingrk1")
            machine.power_on()

        self.do(act)

    def system(self, name: str) -> Os:
        """The system that runs on a machine."""
        found = lan(self.lab).at(str(self.machines[name].spec.address))
        if found is None:
            raise NotRunning(name)
        return found

    def stage(self, name: str) -> str:
        """The stage of a machine's system, nothing while none runs."""
        found = lan(self.lab).at(str(self.machines[name].spec.address))
        return found.stage if found is not None and found.api.listening else ""

    def until(self, condition: Callable[[], Any], timeout_s: float = 30) -> Any:
        """Wait for something to become true; a system that doesn't run yet is no failure."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            with contextlib.suppress(NotRunning):
                found = self.do(condition)
                if found:
                    return found
            time.sleep(0.02)
        raise AssertionError("waited in vain")

    def maintenance(self, *names: str) -> None:
        """Flash machines and wait for maintenance mode."""
        for name in names:
            self.flash(name)
        self.until(lambda: all(self.stage(name) == "maintenance" for name in names))

    def configure(self, name: str, kind: str, **machine: Any) -> None:
        """Apply a config in maintenance mode and wait until it is the node's."""
        text = self.cluster.yaml(kind, name.replace("m", "n"), **machine)
        self.insecure(name, "ApplyConfiguration", pb.ApplyConfigurationRequest(data=text))
        self.until(lambda: self.stage(name) not in ("", "maintenance", "installing"))

    def insecure(self, machine: str, method: str, request: Any = None) -> Any:
        """A call without a certificate."""

        async def call() -> Any:
            async with Node(str(self.machines[machine].spec.address)) as node:
                return await node.call(method, request)

        return self.run(call())

    def secure(
        self,
        machine: str,
        method: str,
        request: Any = None,
        *,
        roles: tuple[str, ...] = (),
        timeout_s: float = 20,
        **metadata: str,
    ) -> Any:
        """A call with a client certificate of the cluster."""

        async def call() -> Any:
            address = str(self.machines[machine].spec.address)
            async with Node(address, self.cluster.os.crt, self.cluster.admin(*roles)) as node:
                return await node.call(method, request, timeout_s=timeout_s, **metadata)

        return self.run(call(), timeout_s + 5)

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The events of a kind so far."""
        from twin import events

        return [event for event in events.read(self.lab.folder / "events.jsonl") if event["kind"] == kind]
