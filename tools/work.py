"""Runs the long commands of an installation: a log for all they say, one line of progress for whoever waits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

LAST_LINES = 15
QUIET_EVERY_S = 30.0
POLL_S = 0.2


class InstallError(Exception):
    """A tool can't be installed; the message says why and what to do. Nothing half-made is left behind."""


def duration(seconds: float) -> str:
    """Minutes and seconds, as `2:05`."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"


@dataclass
class Progress:
    """Time gone by against the usual time: one line, rewritten, on a terminal; else one in half a minute."""

    usual_s: float
    out: TextIO = field(default_factory=lambda: sys.stderr)
    started: float = field(default_factory=time.monotonic)
    _said: float = 0.0

    def tick(self) -> None:
        """Say how far it is, if it is time to."""
        gone = time.monotonic() - self.started
        terminal = self.out.isatty()
        if gone - self._said < (1.0 if terminal else QUIET_EVERY_S):
            return
        self._said = gone
        words = f"      {duration(gone)} of about {duration(self.usual_s)}"
        self.out.write(f"\r{words}" if terminal else f"{words}\n")
        self.out.flush()

    def end(self) -> None:
        """Leave the terminal's cursor on a line of its own."""
        if self.out.isatty() and self._said:
            self.out.write("\n")


@dataclass(frozen=True)
class Work:
    """Where commands of one step write, and how they show that time goes by."""

    log: Path
    progress: Progress

    def run(self, command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
        """Run a command to its end; it and its children are ended with us.

        Raises:
            InstallError: it can't be started or fails; with its last lines and the path of the whole log.
        """
        with self.log.open("ab") as log:
            log.write(f"\n$ {' '.join(command)}\n".encode())
            log.flush()
            code = self._wait(_start(command, log.fileno(), cwd, env))
        if code != 0:
            raise InstallError(f"{command[0]} failed with exit code {code}.\n{last_lines(self.log)}")

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    return process.wait(POLL_S)
                self.progress.tick()
        finally:
            self.progress.end()
            end_group(process)


def _start(
    command: Sequence[str], log: int, cwd: Path | None, env: Mapping[str, str] | None
) -> subprocess.Popen[bytes]:
    """A process group of its own: Ctrl-C reaches us alone, and we end all of it."""
    try:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=cwd, env=env, start_new_session=True
        )
    except OSError as exc:
        raise InstallError(f"{command[0]} can't be started: {exc.strerror}") from None


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process that still runs, and every process that it started."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
            return
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def last_lines(log: Path) -> str:
    """The end of a log, and where the rest is."""
    lines = log.read_text(errors="replace").splitlines()[-LAST_LINES:]
    return "\n".join([*(f"    {line}" for line in lines), f"The whole log: {log}"])
