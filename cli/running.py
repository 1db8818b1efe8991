"""A note of the run that changes a stack on this machine. One that is left behind tells of a run without an end."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from cli.stacks import Stack

LOOKS = frozenset({"preview"})  # verbs that change nothing, so that their end matters to nobody


@dataclass(frozen=True)
class Run:
    """An engine that was started here.

    Attributes:
        verb: what it does.
        pid: its process; 0 when the note can't be read.
        since: when it began, as ISO 8601.
    """

    verb: str
    pid: int
    since: str

    @property
    def words(self) -> str:
        """For people: which run it is."""
        began = moment(self.since)
        when = f" that began {began.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if began else ""
        return f"`{self.verb}`{when}{f' (process {self.pid})' if self.pid else ''}"


def moment(text: str) -> datetime | None:
    """A moment as ISO 8601; None for anything else."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def note(stack: Stack) -> Path:
    """Where it is kept."""
    return stack.folder / "run.json"


def call(stack: Stack, verb: str, command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a verb of the engine to its end, with a note of it as long as it runs.

    Returns:
        Its exit code. The note stays when a signal ended it.
    """
    with subprocess.Popen(command, cwd=stack.root, env=environment) as process:
        if verb in LOOKS:
            return process.wait()
        begin(stack, verb, process.pid)
        code = process.wait()
    if code >= 0:
        end(stack)
    return code


def begin(stack: Stack, verb: str, pid: int, now: datetime | None = None) -> Run:
    """Note a run; it replaces the note of an earlier one."""
    run = Run(verb, pid, (now or datetime.now(UTC)).isoformat(timespec="seconds"))
    stack.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = note(stack).with_suffix(".fresh")
    fresh.write_text(json.dumps(asdict(run)) + "\n", encoding="utf-8")
    fresh.replace(note(stack))
    return run


def end(stack: Stack) -> None:
    """The run came to its end, well or not."""
    note(stack).unlink(missing_ok=True)


def last(stack: Stack) -> Run | None:
    """The run that is noted: it goes on, or it was cut off."""
    try:
        content = json.loads(note(stack).read_text(encoding="utf-8"))
        return Run(str(content["verb"]), int(content["pid"]), str(content["since"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return Run("run", 0, "")
