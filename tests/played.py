"""Linux hosts that the twin plays, in a thread of the test's own: for clients, without anything of Kubernetes."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import asyncssh

from providers.ssh.client import Target
from twin.hosts import k3s
from twin.hosts.host import Host
from twin.hosts.lab import Lab, LabSpec
from twin.hosts.sshd import Sshd

__all__ = ["Played", "k3s"]


@dataclass
class Played:
    """Hosts h1, h2, ... that run while this is open."""

    folder: Path
    specs: dict[str, dict[str, Any]] = field(default_factory=lambda: {"h1": {}})
    port: int = 2222

    def __enter__(self) -> Self:
        self._key = asyncssh.generate_private_key("ssh-ed25519")
        prefix = f"127.{random.randint(200, 250)}.{random.randint(1, 254)}"
        hosts = {
            name: {"address": f"{prefix}.{number}", "port": self.port, **spec}
            for number, (name, spec) in enumerate(self.specs.items(), 11)
        }
        public = self._key.export_public_key().decode()
        spec = LabSpec.model_validate({"authorized": public, "hosts": hosts, "boot_s": 0.3})
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.lab: Lab = self.do(self._begin(spec))
        return self

    def __exit__(self, *_: object) -> None:
        self.do(self._end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)
        self.loop.close()

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run something on the hosts' own loop."""
        future: Future[Any] = asyncio.run_coroutine_threadsafe(work, self.loop)
        return future.result(30)

    def host(self, name: str = "h1") -> Host:
        """A host as the twin has it."""
        return self.lab.hosts[name]

    def target(self, name: str = "h1", user: str = "root") -> Target:
        """How to reach it."""
        door = next(door for door in self.doors if door.host.name == name)
        key = self._key.export_private_key().decode()
        return Target(name, door.host.address, door.public_key, key, user=user, port=self.port)

    def login(self, name: str = "h1") -> dict[str, Any]:
        """The same, as resources have it."""
        target = self.target(name)
        return {
            "host": name, "address": target.address, "mac": "", "subnet": "127.0.0.0/8", "user": "root",
            "port": target.port, "key": target.key, "host_key": target.host_key,
        }  # fmt: skip

    def happened(self, kind: str) -> list[dict[str, Any]]:
        """What the twin saw."""
        from twin.events import read

        return [event for event in read(self.folder / "events.jsonl") if event["kind"] == kind]

    async def _begin(self, spec: LabSpec) -> Lab:
        self.folder.mkdir(parents=True, exist_ok=True)
        lab = Lab(spec, self.folder, None)
        for name, host in spec.hosts.items():
            Host(lab, name, host)
        self.doors = [Sshd(host) for host in lab.hosts.values()]
        for door in self.doors:
            lab.spawn(door.watch(), f"{door.host.name} sshd")
        for made in lab.hosts.values():
            await made.boot()
        return lab

    async def _end(self) -> None:
        for host in self.lab.hosts.values():
            await host.cut()
        for door in self.doors:
            door.close()
        await self.lab.close()
        await asyncio.sleep(0.05)


def settle() -> None:
    """Give connections that were cut a moment to close."""
    time.sleep(0.05)
