"""The file backend's lock outlives a killed run; one whose process is gone on this very host is released (4d.46)."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from providers.errors import RefusedError

PROJECT = "homelab"


@dataclass(frozen=True)
class Lock:
    """One lock file of the backend, as pulumi writes it ({pid, username, hostname, timestamp})."""

    path: Path
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


def backend_folder(environment: Mapping[str, str]) -> Path | None:
    """Where the file backend is; None when the state is kept elsewhere."""
    url = environment.get("PULUMI_BACKEND_URL", "").partition("?")[0]
    return Path(url.removeprefix("file://")).expanduser() if url.startswith("file://") else None


def locks(backend: Path, stack: str) -> list[Lock]:
    """All locks on a stack, oldest first."""
    return sorted(_read(backend / ".pulumi" / "locks", stack), key=lambda lock: lock.since)


def release_stale(
    backend: Path,
    stack: str,
    *,
    alive: Callable[[int], bool] = is_pulumi,
    host: str | None = None,
) -> list[str]:
    """Remove the locks that nobody holds any more.

    Returns:
        A sentence for each that was removed.

    Raises:
        RefusedError: somebody holds one, or may hold it; names the holder. Nothing was removed then.
    """
    found, host = locks(backend, stack), host or socket.gethostname()
    for lock in found:
        if not lock.stale(alive, host):
            raise RefusedError(
                f"stack {stack} is locked by {lock.holder}; wait for it, or if you know that it is gone: rm {lock.path}"
            )
    for lock in found:
        lock.path.unlink(missing_ok=True)
        lock.path.with_name(f"{lock.path.name}.attrs").unlink(missing_ok=True)
    return [f"released the lock that an ended run had left: {lock.holder}" for lock in found]


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
