"""The services of a host, as systemd sees them: units from files, and what runs behind them.

What a unit's program does is played by a class in `PROGRAMS`; a unit whose program is not there fails to start.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from twin.hosts.host import Host

_FOLDER = "/etc/systemd/system"
_BUILT_IN = {"ssh": "openssh-server", "systemd-timesyncd": "systemd-timesyncd", "iscsid": "open-iscsi"}
_START_LIMIT_S = 90.0


class Program(Protocol):
    """What runs behind a unit."""

    async def start(self) -> None:
        """Begin; returns when the service tells systemd that it is ready. What goes wrong for good is an OSError."""

    async def stop(self) -> None:
        """End in order."""

    def kill(self) -> None:
        """The host lost its power."""


class Maker(Protocol):
    """Makes what runs behind a unit, from the words of its ExecStart."""

    def __call__(self, host: Host, argv: list[str]) -> Program:
        """For one start of the unit."""


PROGRAMS: dict[str, Maker] = {}
"""Path of a program -> what plays it. Filled by the modules that play programs, on import."""


class Units:
    """All units of a host."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.states: dict[str, str] = {}  # unit -> active, activating, failed; anything else is inactive
        self.enabled: set[str] = set(_BUILT_IN)
        self._running: dict[str, Program] = {}
        self._starting: dict[str, asyncio.Task[None]] = {}

    def exists(self, unit: str) -> bool:
        """Whether systemd knows it."""
        package = _BUILT_IN.get(unit)
        return package in self.host.packages or self.host.path(f"{_FOLDER}/{unit}.service").is_file()

    def state(self, unit: str) -> str:
        """As `systemctl is-active` says it."""
        return self.states.get(unit, "inactive")

    async def boot(self) -> None:
        """Start what is enabled; systemd does not wait for one before the next."""
        self.states.clear()
        for unit in sorted(self.enabled):
            if self.exists(unit):
                self.begin(unit)

    def begin(self, unit: str) -> asyncio.Task[None]:
        """Start a unit without waiting."""
        if unit not in self._starting and self.state(unit) != "active":
            task = self.host.lab.spawn(self._start(unit), f"{self.host.name} {unit}")
            self._starting[unit] = task
            task.add_done_callback(lambda _: self._starting.pop(unit, None))
            return task
        return self._starting.get(unit) or asyncio.get_running_loop().create_task(asyncio.sleep(0))

    async def start(self, unit: str) -> bool:
        """Start a unit and wait for it, as `systemctl start` of a notifying service does; whether it is active."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self.begin(unit)), _START_LIMIT_S)
        return self.state(unit) == "active"

    async def stop(self, unit: str) -> None:
        """Stop a unit."""
        if task := self._starting.get(unit):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if program := self._running.pop(unit, None):
            await program.stop()
            self.host.emit("service_stopped", unit=unit)
        self.states.pop(unit, None)

    async def shut_down(self) -> None:
        """Stop them all, in order."""
        for unit in {*self._running, *self._starting}:
            await self.stop(unit)

    async def kill(self) -> None:
        """The host lost its power."""
        for task in list(self._starting.values()):
            task.cancel()
        for program in self._running.values():
            program.kill()
        self._running.clear()
        self.states.clear()

    def program(self, unit: str) -> Program | None:
        """What runs behind a unit now, or tries to."""
        return self._running.get(unit)

    async def _start(self, unit: str) -> None:
        if unit in _BUILT_IN:
            self.states[unit] = "active"
            return
        argv = self._argv(unit)
        maker = PROGRAMS.get(argv[0]) if argv and self.host.path(argv[0]).is_file() else None
        if maker is None:
            self.states[unit] = "failed"
            return
        self.states[unit] = "activating"
        program = self._running[unit] = maker(self.host, argv)
        try:
            await program.start()
        except OSError as error:
            self.states[unit] = "failed"
            self.host.put(f"/var/log/{unit}.log", f"{error}\n")
            self.host.emit("service_failed", unit=unit, said=str(error))
            program.kill()
            self._running.pop(unit, None)
            return
        self.states[unit] = "active"
        self.host.emit("service_started", unit=unit)

    def _argv(self, unit: str) -> list[str]:
        """The words of ExecStart, its lines joined."""
        text = self.host.read(f"{_FOLDER}/{unit}.service").replace("\\\n", " ")
        lines = [line.partition("=")[2] for line in text.splitlines() if line.startswith("ExecStart=")]
        return shlex.split(lines[-1]) if lines else []
