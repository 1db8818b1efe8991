"""Starts, asks and ends the twin, which is a program of its own; nothing of it is imported."""

from __future__ import annotations

import subprocess
import sys
import tempfile

from cli.stacks import Stack
from providers.errors import HomelabError
from tools import paths

START_S = 300.0


def start(stack: Stack) -> None:
    """Have the stack's twin run; one that runs already is as good.

    Raises:
        HomelabError: it does not start; in its own words.
    """
    where = ("--lab", str(stack.lab_file), "--state", str(stack.twin_state), "--tools", str(paths.servers()))
    _twin("up", *where, stack=stack)


def running(stack: Stack) -> bool:
    """Whether the stack's twin answers."""
    try:
        _twin("status", "--json", "--state", str(stack.twin_state), stack=stack)
    except HomelabError:
        return False
    return True


def end(stack: Stack) -> None:
    """End the twin with all its processes, and remove its disks.

    Raises:
        HomelabError: it does not end.
    """
    if stack.twin_state.exists():
        _twin("down", "--clean", "--state", str(stack.twin_state), stack=stack)


def _twin(*arguments: str, stack: Stack) -> None:
    command = [sys.executable, "-m", "twin", *arguments]
    # Into a file: what the twin leaves running could hold a pipe open, and the end of it would never come.
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        try:
            done = subprocess.run(
                command,
                cwd=stack.root,
                env=paths.environment(stack.name),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                timeout=START_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise HomelabError(f"twin {arguments[0]}: not done within {START_S:.0f} s") from None
        said.seek(0)
        lines = [line.strip().removeprefix("twin: ") for line in said if line.strip()]
    if done.returncode != 0:
        raise HomelabError(f"twin {arguments[0]}: {lines[-1] if lines else 'it gave no reason'}")
