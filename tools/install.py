"""Puts everything on this machine that a verb of the Makefile needs: `python3 tools/install.py up|test`.

What is there is skipped, what is built is built in a scratch folder and moved into place when it is complete, and two
runs never build the same thing at once.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

if not __package__:  # run as a file: the checkout is not on the path yet
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools import gobuild, paths, pins, release
from tools.pins import Tool
from tools.virtualenv import LOCKS, Packages
from tools.work import InstallError, Progress, Work

PACKAGE_MINUTES = {"up": 1.0, "test": 1.0}


@dataclass(frozen=True)
class Step:
    """One thing to have. `make` is called only if `present` says no."""

    name: str
    title: str
    minutes: float
    present: Callable[[], bool]
    make: Callable[[Work], None]


def steps(group: str) -> list[Step]:
    """What a group needs, in the order in which it is made."""
    packages = Packages(group)
    tools = [pins.ENGINE, *pins.PLUGINS, pins.SERVERS, *(pins.TEST_TOOLS if group == "test" else ())]
    python = Step("python", "Python packages", PACKAGE_MINUTES[group], packages.installed, packages.install)
    return [python, *(_step(tool) for tool in tools)]


def _step(tool: Tool) -> Step:
    title = f"{tool.title} {tool.version}"
    return Step(tool.name, title, tool.minutes, lambda: paths.installed(tool), lambda work: install(tool, work))


def install(tool: Tool, work: Work) -> None:
    """Make a tool in a scratch folder, then move it to where `tools.paths` looks for it.

    Raises:
        InstallError: it can't be made; nothing is left.
    """
    place = paths.home(tool)
    scratch = place.with_name(f".making-{place.name}")
    shutil.rmtree(scratch, ignore_errors=True)
    (scratch / "bin").mkdir(parents=True)
    try:
        obtain(tool, scratch, work)
        missing = [program for program in tool.programs if not (scratch / "bin" / program).exists()]
        if missing:
            raise InstallError(f"{tool.title}: {', '.join(missing)} was not made; the whole log: {work.log}")
        shutil.rmtree(place, ignore_errors=True)
        scratch.rename(place)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def obtain(tool: Tool, scratch: Path, work: Work) -> None:
    """Fill the scratch folder's `bin`: ready-made if it is to be had, else from Go modules or our own stand-in."""
    if (tool is pins.ENGINE and _from_path(scratch)) or _from_release(tool, scratch):
        return
    if tool.builds:
        say("      building from Go modules")
        gobuild.build(tool, scratch / "bin", work)
    for script in tool.own:
        say(f"      taking this project's own stand-in, {script.source}")
        shutil.copyfile(pins.ROOT / script.source, scratch / "bin" / script.program)
        (scratch / "bin" / script.program).chmod(0o755)


def _from_path(scratch: Path) -> bool:
    folder = release.on_path(paths.cache())
    if folder is None:
        return False
    say(f"      taking the one in {folder}")
    release.link(folder, scratch / "bin")
    return True


def _from_release(tool: Tool, scratch: Path) -> bool:
    if tool.release is None:
        return False
    try:
        with tempfile.TemporaryDirectory(dir=scratch) as downloads:
            release.fetch(tool, tool.release, scratch / "bin", Path(downloads))
    except release.NotToBeHad as exc:
        say(f"      the official release is not to be had ({exc})")
        return False
    say(f"      took the official release v{tool.version}")
    return True


def run(todo: Sequence[Step], logs: Path) -> None:
    """Make what is missing, each step announced with its number, its usual time and that of all that follow.

    Raises:
        InstallError: from the first step that fails.
    """
    missing = [step for step in todo if not step.present()]
    for index, step in enumerate(missing):
        rest = sum(later.minutes for later in missing[index + 1 :])
        say(announcement(todo.index(step) + 1, len(todo), step, rest))
        logs.mkdir(parents=True, exist_ok=True)
        log = logs / f"{step.name}.log"
        log.write_bytes(b"")
        step.make(Work(log, Progress(step.minutes * 60)))


def announcement(number: int, count: int, step: Step, rest: float) -> str:
    """The one line that says what happens now and how long there is to wait."""
    after = f"; the rest about {minutes(rest)}" if rest else ""
    return f"[{number}/{count}] {step.title}: about {minutes(step.minutes)}{after}"


def minutes(number: float) -> str:
    """A wait in words."""
    return f"{max(1, round(number))} min"


def show_plugins() -> None:
    """Put the plugins where the engine looks for them: links, since it knows a plugin by its folder's name."""
    for tool in pins.PLUGINS:
        folder = paths.pulumi_home() / "plugins" / f"{tool.name}-v{tool.version}"
        folder.mkdir(parents=True, exist_ok=True)
        for program in tool.programs:
            with suppress(FileExistsError):
                (folder / program).symlink_to(paths.home(tool) / "bin" / program)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the cache's lock; it is the kernel's, so it goes when its holder does, however that ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "install.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            say(f"Another installation is at work (process {lock.read().strip() or 'unknown'}); waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.seek(0)
        lock.truncate()
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def say(words: str) -> None:
    """One line to the person who waits."""
    print(words, file=sys.stderr, flush=True)


def main(arguments: Sequence[str]) -> int:
    """Install a group. Returns the exit code."""
    if sys.version_info < pins.PYTHON:
        say(f"Python {pins.PYTHON[0]}.{pins.PYTHON[1]} or newer is needed; this is {sys.version.split()[0]}.")
        return 1
    if len(arguments) != 1 or arguments[0] not in LOCKS:
        say(f"usage: python3 tools/install.py {'|'.join(LOCKS)}")
        return 2
    todo = steps(arguments[0])
    if all(step.present() for step in todo):
        show_plugins()
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with locked(paths.cache()):
            run(todo, paths.cache() / "logs")
            show_plugins()
    except InstallError as exc:
        say(f"error: {exc}")
        return 1
    except KeyboardInterrupt:
        say("\nInterrupted. Nothing half-made is left; the next run goes on from here.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
