"""A server program of a node: started again when it ends, killed at once when the node loses power."""

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class MissingServer(Exception):
    """A server program that the twin needs is not on this machine."""


def program(tools: Path | None, name: str) -> str:
    """The path of a server program: in the tools folder, or HOMELAB_TOOLS, else on PATH. Raises MissingServer."""
    given = os.environ.get("HOMELAB_TOOLS")
    folder = tools or (Path(given) if given else None)
    if folder is not None and (folder / "bin" / name).exists():
        return str(folder / "bin" / name)
    found = shutil.which(name)
    if found is None:
        raise MissingServer(f"{name} is not in {folder or 'HOMELAB_TOOLS'} nor on PATH")
    return found


class Process:
    """One supervised program. Its output goes to `log`, which its owner alone can read."""

    def __init__(self, argv: Sequence[str], log: Path, nice: int = 0, env: Mapping[str, str] | None = None) -> None:
        self.argv = list(argv)
        self.starts = 0
        self._log = log
        self._env = {"PATH": os.environ.get("PATH", ""), **(env or {})}
        self._nice = nice
        self._child: subprocess.Popen[bytes] | None = None
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether the program runs at this moment."""
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        """Start it, and again whenever it ends."""
        if self._supervisor is None:
            self._supervisor = asyncio.get_running_loop().create_task(self._supervise())

    def kill(self) -> None:
        """End it without a word, for good."""
        self._let_go()
        if self._child is not None:
            self._child.kill()
            self._child.wait()  # the kernel has nothing to write: it takes milliseconds

    async def stop(self, grace_s: float = 5) -> None:
        """End it politely within `grace_s` real seconds, then without a word."""
        self._let_go()
        if self._child is not None and self.running:
            self._child.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):  # wait_for forgets a cancellation that comes as the child ends
                    await _ended(self._child)
        self.kill()

    def _let_go(self) -> None:
        if self._supervisor is not None:
            self._supervisor.cancel()
            self._supervisor = None

    async def _supervise(self) -> None:
        pause_s = 0.5
        while True:
            self._child = self._spawn()
            self.starts += 1
            await _ended(self._child)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 5)

    def _spawn(self) -> subprocess.Popen[bytes]:
        descriptor = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            return subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                env=self._env,
                preexec_fn=self._in_child,  # noqa: PLW1509  # it makes two system calls and takes no lock
                start_new_session=True,  # a Ctrl-C at the twin's terminal is the twin's to handle
            )
        finally:
            os.close(descriptor)

    def _in_child(self) -> None:
        _libc.prctl(_PDEATHSIG, signal.SIGKILL)  # a twin that is killed leaves no server behind
        if self._nice:
            os.nice(self._nice)


async def _ended(child: subprocess.Popen[bytes]) -> None:
    """Wait for a process without looking at it again and again."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    try:
        descriptor = os.pidfd_open(child.pid)
    except ProcessLookupError:
        return
    loop.add_reader(descriptor, over.set)
    try:
        await over.wait()
        child.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
