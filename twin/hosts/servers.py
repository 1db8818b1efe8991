"""The real servers of a control plane on a host, under whatever certificates their distribution made."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from twin.talos.process import Process, program

if TYPE_CHECKING:
    from twin.hosts.host import Host

ELECTION = {"leader-elect-lease-duration": "8s", "leader-elect-renew-deadline": "6s", "leader-elect-retry-period": "1s"}


class Servers:
    """etcd, kube-apiserver and their like, by name."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.processes: dict[str, Process] = {}

    def start(self, name: str, flags: Mapping[str, str]) -> Process:
        """Start one with its flags (key -> value, without dashes)."""
        argv = [program(self.host.lab.tools, name), *(f"--{key}={value}" for key, value in flags.items())]
        process = self.processes[name] = Process(argv, self.host.logs / f"{name}.log", nice=5)
        process.start()
        return process

    def kill(self) -> None:
        """End all, at once."""
        for process in self.processes.values():
            process.kill()
        self.processes.clear()

    async def stop(self) -> None:
        """End all, in order."""
        await asyncio.gather(*(process.stop(2) for process in self.processes.values()))
        self.processes.clear()
