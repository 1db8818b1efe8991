"""The command line's side of a twin: start its process, speak to its control socket, end it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_START_S = 60
_STOP_S = 15


class NotRunning(Exception):
    """No twin answers for this state folder."""


class Refused(Exception):
    """The twin said no, or did not start; the text says why."""


def ask(state: Path, command: dict[str, Any]) -> Any:
    """One command's result. Raises NotRunning or Refused."""
    record = _record(state)
    if record is None:
        raise NotRunning(f"no twin runs on {state}; start one with `python -m twin up --state {state}`")
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(record["control"])
            connection.sendall(json.dumps(command).encode() + b"\n")
            answer = json.loads(connection.makefile("rb").readline())
    except (OSError, ValueError) as error:
        raise NotRunning(f"the twin on {state} (pid {record['pid']}) does not answer: {error}") from None
    if not answer["ok"]:
        raise Refused(answer["error"])
    return answer["result"]


def running(state: Path) -> bool:
    """Whether a twin answers for this state folder."""
    try:
        ask(state, {"command": "status"})
    except NotRunning:
        return False
    return True


def start(state: Path, arguments: Sequence[str]) -> str:
    """Start `python -m twin ARGUMENTS --foreground` as a daemon and wait until it listens. Raises Refused."""
    if running(state):
        return f"the twin on {state} is up already"
    with (state / "twin.log").open("ab") as log:
        log_start = log.tell()
        child = subprocess.Popen(
            [sys.executable, "-m", "twin", *arguments, "--foreground"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    ends = time.monotonic() + _START_S
    while time.monotonic() < ends:
        if child.poll() is not None:
            raise Refused(_said(state / "twin.log", log_start))
        record = _record(state)
        if record is not None and record["pid"] == child.pid:
            return f"twin up, pid {child.pid}, state in {state}"
        time.sleep(0.02)
    child.kill()
    raise Refused(f"not up after {_START_S} s; see {state}/twin.log")


def stop(state: Path) -> str:
    """End a twin and wait for its process; one that does not go is killed by its id. Raises nothing if none runs."""
    record = _record(state)
    if record is None:
        return f"no twin runs on {state}"
    pid = int(record["pid"])
    if _is_twin(pid):
        _end(pid, state)
    (state / "twin.json").unlink(missing_ok=True)
    return f"twin down (pid {pid})"


def _end(pid: int, state: Path) -> None:
    try:
        ask(state, {"command": "down"})
    except NotRunning:
        os.kill(pid, signal.SIGTERM)
    ends = time.monotonic() + _STOP_S
    while not _ended(pid) and time.monotonic() < ends:
        time.sleep(0.02)
    if not _ended(pid):
        os.kill(pid, signal.SIGKILL)


def _ended(pid: int) -> bool:
    """Whether a process is gone, but for a zombie that its parent has not asked about."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def _record(state: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads((state / "twin.json").read_bytes()))
    except (OSError, ValueError):
        return None


def _is_twin(pid: int) -> bool:
    """Whether this process is alive and a twin, and not another one that got the same id."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return not _ended(pid) and b"twin" in command


def _said(log: Path, start: int) -> str:
    lines = log.read_bytes()[start:].decode(errors="replace").strip().splitlines()
    said = [line.removeprefix("twin: ") for line in lines if line.startswith("twin: ")]
    return "\n".join(said or lines[-1:]) or f"it ended at once; see {log}"
