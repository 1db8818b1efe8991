"""`homelab watch`: the lab and the run that changes it, in a terminal, until Ctrl-C."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from cli import credentials, observe, run_log, stacks, words
from cli.observe import Lab
from cli.observe_scene import Scene, look
from cli.options import Json, StackName
from cli.run_log import Run, Tail
from cli.stacks import Stack
from cli.watch_view import FLASH, Watched, view
from providers.errors import HomelabError

FRAME_S = 0.5
PAUSE_S = 2.0  # between two looks: a BMC is a small computer

Once = Annotated[bool, typer.Option("--once", help="One frame, and no more.")]


def command(stack: StackName = "twin", once: Once = False, as_json: Json = False) -> None:
    """Watch the lab live: boards, slots, flashes, Talos' stages, nodes, VIP, etcd, and the steps of a running `up`.

    It changes nothing and goes on when the lab is away; Ctrl-C ends it. Where the output is no terminal it prints one
    frame, as with --once. The exit code is 0.
    """
    show(Watcher(observe.open_lab(stacks.find(stack))), words.console(), once=once, as_json=as_json)


def show(watcher: Watcher, out: Console, *, once: bool, as_json: bool) -> None:
    """One state, one frame, or frames until Ctrl-C."""
    if as_json:
        print(words.document(watcher.state()))
    elif once or not out.is_terminal:
        out.print(view(watcher.state(), out.width))
    else:
        live(watcher, out)


class Watcher:
    """Looks at one lab, and at the runs that this machine starts on it.

    Args:
        lab: as it is at the start; credentials that the first `up` leaves are taken up.
        look: what looks at a lab, leaving boards of some names in peace.
    """

    def __init__(self, lab: Lab, look: Callable[[Lab, list[str]], Scene] = look) -> None:
        self._lab = lab
        self._look = look
        self._runs, self._flashes = Runs(lab.stack), Runs(lab.stack)  # one for each thread
        self._scene: Scene | None = None
        self._trouble = ""

    def state(self) -> Watched:
        """Look now, and tell."""
        self.look()
        return self.latest()

    def latest(self) -> Watched:
        """What the last look saw, and the run as it is now."""
        return Watched(datetime.now(UTC), self._scene, self._runs.newest(), self._trouble)

    def look(self) -> None:
        """Look once. What is in the way of it is told, and the last look's result stays."""
        try:
            stack = self._lab.stack
            keys = credentials.talos_certificate(stack), credentials.kubeconfig(stack)
            self._lab = dataclasses.replace(self._lab, certificate=keys[0], kubeconfig=keys[1])
            self._scene = self._look(self._lab, flashing(self._lab, self._flashes.newest()))
            self._trouble = ""
        except (HomelabError, OSError) as error:
            self._trouble = str(error)

    def keep_looking(self, ended: threading.Event, pause_s: float = PAUSE_S) -> None:
        """Look again and again, until it has ended."""
        while not ended.is_set():
            self.look()
            ended.wait(pause_s)


class Runs:
    """The newest run of a stack, read on where it was read to."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._tail: Tail | None = None

    def newest(self) -> Run | None:
        """It as it is now; None when there was none."""
        for path in run_log.paths(self._stack):
            with suppress(OSError, ValueError):
                if self._tail is None or self._tail.path != path:
                    self._tail = Tail(path)
                return self._tail.read()
        return None


def flashing(lab: Lab, run: Run | None) -> list[str]:
    """The boards that the run writes an image on now."""
    if run is None or run.outcome != "running":
        return []
    busy = {step.owner for step in run.steps if step.kind == FLASH and step.ended is None}
    return sorted({node.board for name, node in lab.settings.nodes.items() if name in busy})


def live(watcher: Watcher, out: Console) -> None:
    """Draw until Ctrl-C. The last frame stays on the screen."""
    ended = threading.Event()
    looking = threading.Thread(target=watcher.keep_looking, args=(ended,), daemon=True)
    looking.start()
    with suppress(KeyboardInterrupt), Live(console=out, auto_refresh=False) as screen:
        while True:
            screen.update(view(watcher.latest(), out.width), refresh=True)
            time.sleep(FRAME_S)
    ended.set()
