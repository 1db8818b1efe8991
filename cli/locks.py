"""The engine's lock outlives a killed run; one whose process is gone on this very host is released (4d.46)."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cli.running import Run, moment
from providers.errors import RefusedError

PROJECT = "homelab"
# "  s3://bucket/.pulumi/locks/...json: created by USER@HOST (pid N) at TIME", a line for each lock.
_SAID = re.compile(r": created by (?P<user>\S*)@(?P<host>\S+) \(pid (?P<pid>\d+)\) at (?P<since>\S+)$", re.MULTILINE)
CLOCK = timedelta(seconds=2)  # the engine tells whole seconds


@dataclass(frozen=True)
class Lock:
    """One lock on a stack, as the engine writes it ({pid, username, hostname, timestamp}).

    Attributes:
        path: its file; None in a bucket.
    """

    path: Path | None
    pid: int
    user: str
    host: str
    since: str

    @property
    def holder(self) -> str:
        """Who, in words."""
        return f"process {self.pid} of {self.user} on {self.host} since {self.since}"

    def stale(self, alive: Callable[[int], bool], host: str) -> bool:
        """Whether its process is known to be gone: only this host's processes can be."""
        return self.host == host and not alive(self.pid)

    def left_by(self, run: Run | None) -> bool:
        """Whether a run that was begun in this checkout took it. Two machines may well have one host name."""
        taken, begun = moment(self.since), moment(run.since) if run else None
        return bool(run and run.pid == self.pid and taken and begun and taken >= begun - CLOCK)


def is_pulumi(pid: int) -> bool:
    """Whether a process of that number runs here and could be the engine; a number is used again after a while."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        # "PID (name) STATE ...": one that has ended and that nobody has asked about yet is a Z.
        name, _, rest = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")
        return "pulumi" in name and not rest.lstrip().startswith("Z")
    except FileNotFoundError:
        return not Path("/proc/self").exists()  # ended just now; or a system without /proc, where it is taken as alive
    except OSError:
        return True


def locks(backend: Path, stack: str) -> list[Lock]:
    """All locks on a stack in a folder, oldest first."""
    return sorted(_read(backend / ".pulumi" / "locks", stack), key=lambda lock: lock.since)


def told(words: str) -> list[Lock]:
    """The locks that the engine names when it refuses to take one itself; they may be in a bucket."""
    return [Lock(None, int(it["pid"]), it["user"], it["host"], it["since"]) for it in _SAID.finditer(words)]


def release_stale(
    backend: Path,
    stack: str,
    *,
    alive: Callable[[int], bool] = is_pulumi,
    host: str | None = None,
) -> list[str]:
    """Remove the locks in a folder that nobody holds any more.

    Returns:
        A sentence for each that was removed.

    Raises:
        RefusedError: somebody holds one, or may hold it; names the holder. Nothing was removed then.
    """
    found, host = locks(backend, stack), host or socket.gethostname()
    refuse_held(stack, [lock for lock in found if not lock.stale(alive, host)])
    for lock in found:
        if lock.path is not None:
            lock.path.unlink(missing_ok=True)
            lock.path.with_name(f"{lock.path.name}.attrs").unlink(missing_ok=True)
    return [released(lock) for lock in found]


def refuse_held(stack: str, held: Sequence[Lock]) -> None:
    """Stop before a second run begins.

    Raises:
        RefusedError: somebody holds a lock; names the holder, and says what to type.
    """
    if held:
        raise RefusedError(f"stack {stack} is locked by {held[0].holder}; {way_out(stack)}")


def way_out(stack: str) -> str:
    """What to type about a lock."""
    return f"wait for it, or if you know that it is gone: homelab state unlock --stack {stack}"


def released(lock: Lock) -> str:
    """The word that a released lock is told with."""
    return f"released the lock that an ended run had left: {lock.holder}"


def _read(folder: Path, stack: str) -> Iterator[Lock]:
    for path in sorted(folder.glob(f"*/{PROJECT}/{stack}/*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            pid, host = int(content["pid"]), str(content["hostname"])
            yield Lock(path, pid, str(content.get("username", "?")), host, str(content.get("timestamp", "?")))
        except FileNotFoundError:
            continue  # released this moment
        except (OSError, ValueError, KeyError, TypeError):
            yield Lock(path, 0, "somebody", "an unknown host", "an unknown time")
