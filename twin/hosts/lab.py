"""What hosts there are (the lab file, typed), and what they share."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

from twin.events import Events
from twin.tasks import Tasks

if TYPE_CHECKING:
    from twin.hosts.box import Box
    from twin.hosts.host import Host


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


class BoxSpec(Part):
    """A machine without a disk and with a BMC. It boots from the network when its BMC is told so."""

    uuid: str  # by which its BMC and its firmware know it
    mac: str
    address: IPv4Address  # that DHCP gives it
    entry: str  # URL of the first script, which DHCP gives its iPXE


class LabSpec(Part):
    """The lab file."""

    authorized: str  # the public key that every host lets in
    hosts: dict[str, HostSpec]
    boxes: dict[str, BoxSpec] = Field(default_factory=dict)
    bmc: str = ""  # HOST:PORT at which the boxes' BMCs, which are not played here, tell of power
    boot_s: float = 1.0  # real seconds from power to SSH, or from power to iPXE, or from a kernel to its services
    scale: float = 0.1  # real seconds for one that a script or a service waits before it tries again
    pod_start_s: float = 0.2
    vips: dict[str, IPv4Address] = Field(default_factory=dict)  # cluster -> address that kube-vip would announce


class Lab:
    """What running hosts share."""

    def __init__(self, spec: LabSpec, folder: Path, tools: Path | None) -> None:
        self.spec = spec
        self.folder = folder
        self.tools = tools
        self.hosts: dict[str, Host] = {}
        self.boxes: dict[str, Box] = {}
        self.events = Events(folder / "events.jsonl")
        self._tasks = Tasks()

    def at(self, address: str) -> Host | None:
        """The host that has an address and power."""
        return next((host for host in self.hosts.values() if host.address == address and host.on), None)

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run a coroutine of its own; if it fails, the twin's log has the traceback."""
        return self._tasks.spawn(work, name)

    async def close(self) -> None:
        """End everything that was spawned."""
        await self._tasks.end()
        self.events.close()


def load(file: Path) -> LabSpec:
    """A lab file. Raises pydantic.ValidationError."""
    return LabSpec.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
