"""What hosts there are (the lab file, typed), and what they share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

from twin.events import Events

if TYPE_CHECKING:
    from twin.hosts.host import Host

log = logging.getLogger("twin")


class Part(BaseModel):
    """A part of the lab file: unknown keys are mistakes, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class HostSpec(Part):
    """One host as it was set up by its owner: a Debian with an SSH server, and nothing of Kubernetes."""

    address: IPv4Address
    port: int = 2222
    user: str = "root"
    mac: str = "02:00:00:00:00:01"
    packages: tuple[str, ...] = ("openssh-server", "systemd-timesyncd", "iproute2")
    swap: bool = True
    memory_cgroup: bool = False  # a Raspberry Pi has it only when its kernel command line says so
    files: dict[str, str] = Field(default_factory=dict)  # more of them, path -> content


class LabSpec(Part):
    """The lab file."""

    authorized: str  # the public key that every host lets in
    hosts: dict[str, HostSpec]
    boot_s: float = 1.0  # real seconds from power to SSH
    pod_start_s: float = 0.2
    vips: dict[str, IPv4Address] = Field(default_factory=dict)  # cluster -> address that kube-vip would announce


class Lab:
    """What running hosts share."""

    def __init__(self, spec: LabSpec, folder: Path, tools: Path | None) -> None:
        self.spec = spec
        self.folder = folder
        self.tools = tools
        self.hosts: dict[str, Host] = {}
        self.events = Events(folder / "events.jsonl")
        self._tasks: set[asyncio.Task[Any]] = set()

    def at(self, address: str) -> Host | None:
        """The host that has an address and power."""
        return next((host for host in self.hosts.values() if host.address == address and host.on), None)

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run a coroutine of its own; if it fails, the twin's log has the traceback."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    async def close(self) -> None:
        """End everything that was spawned."""
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.events.close()

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)


def load(file: Path) -> LabSpec:
    """A lab file. Raises pydantic.ValidationError."""
    return LabSpec.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
