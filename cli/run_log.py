"""The last runs of a stack: each leaves `.homelab/<stack>/runs/<time>-<verb>.jsonl`, readable by the owner only.

While a run goes on, the engine writes its own events there and the command that started it holds the file's lock;
when it has ended, the file is cut down to what `watch` and `report` show.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from cli.run_events import Event, Reader, Step, condensed, steps
from cli.stacks import Stack

KEPT = 20  # of each verb: nightly previews push no `up` out
RECORDED = frozenset({"up", "preview", "refresh", "destroy"})
# The engine's option is one of those that its developers use; without this word it doesn't know it.
SWITCH = {"PULUMI_DEBUG_COMMANDS": "true"}
HEAD_BYTES = 128  # of the first line: the time is among them
END_BYTES = 256  # more than the last line of a run that has ended
_TIME = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True)
class Run:
    """One run of the engine.

    Attributes:
        began: Unix time in seconds, as `ended`, which is None while it runs.
        outcome: "running", "done", "failed", or "cut off" when it was killed.
        previewing: whether nothing is being done yet, or nothing was.
        changes: how many resources by what was done to them; what stayed the same is left out.
        problems: what the engine complained of, one line each.
    """

    verb: str
    began: int
    ended: int | None
    outcome: str
    previewing: bool
    steps: tuple[Step, ...] = ()
    changes: dict[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


@dataclass
class Record:
    """A run that is being recorded. `code` is the engine's exit code, set when it has ended."""

    path: Path | None
    code: int | None = None

    @property
    def options(self) -> tuple[str, ...]:
        """What the engine is told."""
        return ("--event-log", str(self.path)) if self.path else ()


def folder(stack: Stack) -> Path:
    """Where the records of a stack are."""
    return stack.folder / "runs"


@contextmanager
def recorded(stack: Stack, verb: str, now: datetime | None = None) -> Iterator[Record]:
    """Have a run leave its record. A record that can't be written is no reason not to run."""
    if verb not in RECORDED:
        yield Record(None)
        return
    try:
        path, file = _fresh(folder(stack), verb, now or datetime.now(UTC))
    except OSError:
        yield Record(None)
        return
    record = Record(path)
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield record
        finally:
            with suppress(OSError):
                _close(path, record.code)
                _tidy(folder(stack))


def paths(stack: Stack) -> list[Path]:
    """The records, newest first."""
    return sorted(folder(stack).glob("*-*.jsonl"), key=lambda path: path.name, reverse=True)


def last(stack: Stack, count: int) -> list[Run]:
    """The newest runs; a file that is no record is left out."""
    found: list[Run] = []
    for path in paths(stack):
        with suppress(OSError, ValueError):
            found.append(Tail(path).read())
        if len(found) == count:
            break
    return found


class Tail:
    """Reads a run's record again and again, each time only what is new.

    Raises:
        ValueError: the file's name is not a record's.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._verb, self._began = _named(path)
        self._head = b""
        self._forget()

    def read(self) -> Run:
        """The run as it is now.

        Raises:
            OSError: the file is gone.
        """
        with self.path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            if not head.startswith(self._head):  # it was cut down; or `up` begins it anew after its own preview
                self._forget()
            self._head = head
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # the rest of it comes later
                self._offset += len(line)
                self._take(line.decode(errors="replace"))
            return self._run(running=_is_locked(file.fileno()))

    def _forget(self) -> None:
        self._head = b""
        self._offset: int = 0
        self._end: dict[str, Any] = {}
        self._events: list[Event] = []
        self._reader = Reader()

    def _take(self, line: str) -> None:
        if line.startswith('{"run"'):
            self._end = json.loads(line)["run"]
            return
        event = self._reader.event(line)
        if event is not None:
            self._events.append(event)

    def _run(self, *, running: bool) -> Run:
        acted = any(event.kind in ("begin", "counted") and not event.planning for event in self._events)
        return Run(
            verb=self._verb,
            began=self._began,
            ended=self._end.get("ended"),
            outcome=_outcome(self._end, running=running),
            previewing=not acted,
            steps=steps(self._events),
            changes=_changes(self._events),
            problems=tuple(dict.fromkeys(e.text for e in self._events if e.severity == "error")),
        )


def _outcome(end: dict[str, Any], *, running: bool) -> str:
    if end.get("code") is None:
        return "running" if running else "cut off"
    return "failed" if end["code"] else "done"


def _changes(events: Sequence[Event]) -> dict[str, int]:
    counted = next((event.changes for event in reversed(events) if event.kind == "counted"), {})
    return {op: count for op, count in counted.items() if op != "same"}


def _named(path: Path) -> tuple[str, int]:
    time, _, verb = path.stem.partition("-")
    began = datetime.strptime(time, _TIME).replace(tzinfo=UTC)
    return verb.partition("-")[0], int(began.timestamp())


def _fresh(where: Path, verb: str, began: datetime) -> tuple[Path, BinaryIO]:
    """A new file, mode 0600 from its first moment; two runs of one second get one each."""
    where.mkdir(parents=True, exist_ok=True, mode=0o700)
    for again in range(100):
        path = where / f"{began:{_TIME}}-{verb}{f'-{again}' if again else ''}.jsonl"
        with suppress(FileExistsError):
            return path, os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "r+b")
    raise FileExistsError(str(where))


def _is_locked(handle: int) -> bool:
    """Whether the command that started the run still waits for it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    fcntl.flock(handle, fcntl.LOCK_UN)
    return False


def _close(path: Path, code: int | None) -> None:
    """Put what is kept in the place of what the engine wrote. A run that told nothing leaves nothing."""
    state = path.stat()
    if state.st_size == 0:
        path.unlink()
        return
    fresh = path.with_name(f".{path.name}")
    with (
        path.open(encoding="utf-8", errors="replace") as told,
        os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as kept,
    ):
        kept.writelines(f"{line}\n" for line in condensed(told))
        kept.write(json.dumps({"run": {"ended": int(state.st_mtime), "code": code}}) + "\n")
    fresh.replace(path)


def _tidy(where: Path) -> None:
    """Remove what is older than the last `KEPT`, and cut down what killed runs left whole."""
    kept: dict[str, int] = {}
    for path in sorted(where.glob("*-*.jsonl"), key=lambda path: path.name, reverse=True):
        with suppress(ValueError):
            verb = _named(path)[0]
            kept[verb] = kept.get(verb, 0) + 1
            if kept[verb] > KEPT:
                path.unlink(missing_ok=True)
            elif _was_killed(path):
                _close(path, None)


def _was_killed(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-min(END_BYTES, file.seek(0, os.SEEK_END)), os.SEEK_END)
        return b'{"run"' not in file.read() and not _is_locked(file.fileno())
