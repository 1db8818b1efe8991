"""HAProxy, which is the real one, and keepalived, which is played: the VIP is on the host that holds it."""

from __future__ import annotations

import asyncio
import re
import shutil
from typing import TYPE_CHECKING

import aiohttp

from twin.hosts.kubeadm_node import UNITS
from twin.hosts.shell import Reply, command, said
from twin.hosts.units import PROGRAMS, Program
from twin.talos.process import Process
from twin.talos.relay import Relay

if TYPE_CHECKING:
    from twin.hosts.host import Host

HAPROXY, KEEPALIVED = "/etc/haproxy/haproxy.cfg", "/etc/keepalived/keepalived.conf"
_BIND = re.compile(r"^\s*bind \S+:(\d+)$", re.MULTILINE)
_PORTS = re.compile(r"^(\s*bind )(?:\*|127\.0\.0\.1|0\.0\.0\.0):", re.MULTILINE)
_HOST_ONLY = re.compile(r"^\s*(user|group|log|option tcplog|option dontlognull)\b.*\n", re.MULTILINE)
_POLL_S = 0.3
UNITS |= {"haproxy": "/usr/sbin/haproxy", "keepalived": "/usr/sbin/keepalived"}


def _ours(host: Host) -> str:
    """The config for this machine: a host's every address, and its loopback, are the one address that it has here."""
    text = _HOST_ONLY.sub("", host.read(HAPROXY))
    return _PORTS.sub(rf"\g<1>{host.address}:", text)


def _port(host: Host) -> int:
    """Where the API is passed on; the status page comes first in the file."""
    return int(_BIND.findall(host.read(HAPROXY))[-1])


class HAProxy:
    """The distribution's own program, with the host's file."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._process: Process | None = None

    async def start(self) -> None:
        """Start it. Raises OSError where it is not installed on this machine."""
        program = shutil.which("haproxy")
        if program is None:
            raise OSError("haproxy is not installed on the twin's machine")
        file = self.host.lab.folder / self.host.name / "haproxy.cfg"
        file.write_text(_ours(self.host), encoding="utf-8")
        self._process = Process([program, "-f", str(file), "-db"], self.host.logs / "haproxy.log")
        self._process.start()

    async def stop(self) -> None:
        """End it."""
        self.kill()

    def kill(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()


class Keepalived:
    """Takes the VIP when nobody has it, its own HAProxy answers, and nobody of a higher priority could."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._relay: Relay | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to look."""
        self._task = self.host.lab.spawn(self._watch(), f"{self.host.name} keepalived")

    async def stop(self) -> None:
        """Give it up."""
        self.kill()

    def kill(self) -> None:
        """Give it up."""
        if self._task is not None:
            self._task.cancel()
        self._let_go()

    @property
    def priority(self) -> int:
        """As its file says."""
        found = re.search(r"^\s*priority (\d+)", self.host.read(KEEPALIVED), re.MULTILINE)
        return int(found[1]) if found else 0

    @property
    def vip(self) -> str:
        """As its file says."""
        found = re.search(r"virtual_ipaddress \{\s*([0-9.]+)", self.host.read(KEEPALIVED))
        return found[1] if found else ""

    async def fit(self) -> bool:
        """What its check says: whether HAProxy answers on this host."""
        url = f"http://{self.host.address}:8404/alive"
        try:
            limit = aiohttp.ClientTimeout(total=2)
            async with aiohttp.ClientSession(timeout=limit) as session, session.get(url) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def _watch(self) -> None:
        while True:
            fit = self.host.on and await self.fit()
            if self._relay is None and fit and not await self._somebody_better():
                self._take()
            elif self._relay is not None and not fit:
                self._let_go()
            await asyncio.sleep(_POLL_S)

    async def _somebody_better(self) -> bool:
        for other in self.host.lab.hosts.values():
            found = other.units.program("keepalived")
            if isinstance(found, Keepalived) and found is not self and found.vip == self.vip:
                if found._relay is not None:  # noqa: SLF001  # its own kind
                    return True
                if other.on and found.priority > self.priority and await found.fit():
                    return True
        return False

    def _take(self) -> None:
        relay = Relay(lambda: [(self.host.address, _port(self.host))])
        try:
            relay.listen(self.vip, _port(self.host))
        except OSError:
            return
        self._relay = relay
        self.host.emit("vip_taken", address=self.vip)

    def _let_go(self) -> None:
        if self._relay is not None:
            self._relay.close()
            self._relay = None
            self.host.emit("vip_left", address=self.vip)


def _haproxy(host: Host, argv: list[str]) -> Program:
    return HAProxy(host)


def _keepalived(host: Host, argv: list[str]) -> Program:
    return Keepalived(host)


PROGRAMS[UNITS["haproxy"]] = _haproxy
PROGRAMS[UNITS["keepalived"]] = _keepalived


@command("haproxy")
async def haproxy(host: Host, argv: list[str], _stdin: bytes) -> Reply:
    """`-v`, and `-c -f FILE` by the real one."""
    if "haproxy" not in host.packages:
        return said("sh: 1: haproxy: not found\n", 127)
    if argv == ["-v"]:
        return said("HAProxy version 2.6.12\n")
    program = shutil.which("haproxy")
    if program is None:
        return said("twin: haproxy is not installed on this machine\n", 1)
    file = host.lab.folder / host.name / "haproxy.check"
    file.write_text(_ours(host), encoding="utf-8")
    child = await asyncio.create_subprocess_exec(
        program, "-c", "-f", str(file), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await child.communicate()
    return Reply(child.returncode or 0, out)


@command("keepalived")
def keepalived(host: Host, argv: list[str], _stdin: bytes) -> Reply:
    """`-v` and `-t`."""
    if "keepalived" not in host.packages:
        return said("sh: 1: keepalived: not found\n", 127)
    found = Keepalived(host)
    return Reply() if argv == ["-v"] or (found.vip and found.priority) else said("no virtual_ipaddress\n", 1)
