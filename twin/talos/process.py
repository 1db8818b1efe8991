"""A server program of a node: started again when it ends, killed at once when the node loses power."""

import asyncio
import ctypes
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class MissingServer(Exception):
    """A server program that the twin needs is not on this machine."""


def program(tools: Path | None, name: str) -> str:
    """The path of a server program: in the tools folder, else on PATH. Raises MissingServer."""
    if tools is not None:
        for candidate in (tools / "bin" / name, tools / name):
            if candidate.exists():
                return str(candidate)
    found = shutil.which(name)
    if found is None:
        raise MissingServer(f"{name} is not among the tools ({tools}) nor on PATH")
    return found


class Process:
    """One supervised program. Its output goes to `log`, which its owner alone can read."""

    def __init__(self, argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None, nice: int = 0) -> None:
        self.argv = list(argv)
        self.starts = 0
        self._log = log
        self._env = dict(env or {})
        self._nice = nice
        self._child: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether the program runs at this moment."""
        return self._child is not None and self._child.returncode is None

    def start(self) -> None:
        """Start it, and again whenever it ends."""
        if self._supervisor is None:
            self._supervisor = asyncio.get_running_loop().create_task(self._supervise())

    def kill(self) -> None:
        """End it without a word, for good."""
        self._signal(signal.SIGKILL)
        if self._supervisor is not None:
            self._supervisor.cancel()
            self._supervisor = None

    async def stop(self, grace_s: float = 5) -> None:
        """End it politely within `grace_s` real seconds, then without a word."""
        child = self._child
        if self._supervisor is not None:
            self._supervisor.cancel()
            self._supervisor = None
        self._signal(signal.SIGTERM)
        if child is not None:
            try:
                await asyncio.wait_for(child.wait(), grace_s)
            except TimeoutError:
                self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self._child is not None and self._child.returncode is None:
            try:
                self._child.send_signal(number)
            except ProcessLookupError:
                return

    async def _supervise(self) -> None:
        pause_s = 0.5
        while True:
            self._child = await self._spawn()
            self.starts += 1
            await self._child.wait()
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 5)

    async def _spawn(self) -> asyncio.subprocess.Process:
        descriptor = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            return await asyncio.create_subprocess_exec(
                *self.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                env={"PATH": os.environ.get("PATH", ""), **self._env},
                preexec_fn=self._in_child,
                start_new_session=True,  # a Ctrl-C at the twin's terminal is the twin's to handle
            )
        finally:
            os.close(descriptor)

    def _in_child(self) -> None:
        _libc.prctl(_PDEATHSIG, signal.SIGKILL)  # a twin that is killed leaves no server behind
        if self._nice:
            os.nice(self._nice)
