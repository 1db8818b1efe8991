"""Locks between the runs on this machine: who works on a board or a node holds its file."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from providers import pace
from providers.deadline import Deadline
from providers.errors import RefusedError


def _folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"homelab-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _holder(file: IO[str]) -> str:
    file.seek(0)
    try:
        held = json.loads(file.read() or "{}")
    except ValueError:
        held = {}
    return f"process {held.get('pid', '?')} ({held.get('what', 'unknown work')})"


def _taken(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


@contextlib.contextmanager
def held(name: str, what: str, deadline: Deadline, waiting: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Hold the lock `name` while the body runs; the kernel lets it go when the process ends, however it ends.

    Args:
        name: what is locked ("board 192.168.1.60").
        what: what is done under it, shown to whoever waits.
        deadline: how long to wait for another holder.
        waiting: told once who holds it.

    Raises:
        RefusedError: another process held it past the deadline.
    """
    path = _folder() / (re.sub(r"[^A-Za-z0-9.]+", "-", name) + ".lock")
    with path.open("a+", encoding="utf-8") as file:
        told = False
        while _taken(file):
            if not told:
                waiting(f"waiting: {name} is held by {_holder(file)}")
                told = True
            if deadline.expired:
                raise RefusedError(f"{name}: still held by {_holder(file)}; end that run first, then run this again")
            deadline.sleep(pace.interval(1))
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "what": what, "since": time.time()}))
        file.flush()
        yield
