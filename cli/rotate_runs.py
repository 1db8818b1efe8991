"""What a rotation runs: ordinary `homelab up`s that carry one wish, and what the stack's state holds of keys."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from cli.engine import Engine
from cli.stacks import Stack
from providers.deployment import Item, opened
from providers.errors import HomelabError, UserError
from providers.talos import rotation, wire
from providers.talos.rotation import Rotation
from providers.talos.secrets import SecretsBundle

WISH = "HOMELAB_ROTATE"
_SECRETS = "::secrets"
_OF_THE_NODES = ("**::secrets", "**::*-machine")
# The engine doesn't know new keys before they are made: in its preview everything in the cluster would seem to go.
_UNSEEN = ("--skip-preview",)


@dataclass(frozen=True)
class Held:
    """The cluster's keys, and how far the exchange of one is."""

    bundle: SecretsBundle
    rotation: Rotation


class Runs(Protocol):
    """What a rotation needs of the program."""

    stack: str

    def held(self) -> Held:
        """What the stack's state holds now."""

    def converged(self) -> bool:
        """Whether an `up` would change nothing."""

    def up(self, wish: str) -> None:
        """Run `homelab up`, with a wish or "" for none. Raises HomelabError when it did not come to its end."""


class HomelabRuns:
    """The same command in a process of its own: with all that an `up` does before and after."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack.name
        self._stack = stack

    def held(self) -> Held:
        """See `Runs`."""
        engine = Engine(self._stack)
        engine.require_passphrase()
        return read(engine.deployment(), self.stack)

    def converged(self) -> bool:
        """See `Runs`."""
        return self._run("preview", "--", "--expect-no-changes") == 0

    def preview(self, wish: str) -> int:
        """Run `homelab preview` with a wish; its exit code."""
        targets = [word for target in _OF_THE_NODES for word in ("--target", target)]
        return self._run("preview", "--", *targets, wish=wish)

    def up(self, wish: str) -> None:
        """See `Runs`."""
        self._finished(self._run("up", "--yes", "--", *_UNSEEN, wish=wish))

    def replace(self, urn: str) -> None:
        """Run `homelab up` and have one resource made anew in it. Raises HomelabError when it was cut off."""
        self._finished(self._run("up", "--yes", "--", *_UNSEEN, "--replace", urn))

    @staticmethod
    def _finished(code: int) -> None:
        if code:
            raise HomelabError(
                f"up did not finish (exit code {code}); `homelab rotate` with the same words goes on from there"
            )

    def _run(self, verb: str, *arguments: str, wish: str = "") -> int:
        command = [sys.executable, "-m", "cli.main", verb, "--stack", self.stack, *arguments]
        environment = {**os.environ, "PYTHONPATH": str(self._stack.root), WISH: wish}
        before = signal.signal(signal.SIGINT, lambda *_: None)  # the run hears a Ctrl-C itself, and ends well
        try:
            return subprocess.call(command, cwd=self._stack.root, env=environment)
        finally:
            signal.signal(signal.SIGINT, before)


def read(resources: Iterable[Item], stack: str) -> Held:
    """The keys in the resources of a state.

    Raises:
        UserError: there is no cluster in it.
    """
    for item in resources:
        outputs = opened(item.get("outputs") or {})
        if str(item["urn"]).endswith(_SECRETS) and outputs.get("bundle"):
            return Held(wire.unpack(outputs["bundle"]), rotation.unpack(outputs.get("rotation")))
    raise UserError(f"stack {stack} has no cluster yet; `homelab up --stack {stack}` makes one")
