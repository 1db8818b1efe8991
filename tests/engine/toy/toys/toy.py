"""A resource that says what it sees, sleeps, and has drifted whenever it is read."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, ReadResult, Resource

from providers.dynamic import Props, Provider
from providers.engine import Reporter, current_urn


def note(line: str) -> None:
    with Path(os.environ["TOY_LOG"]).open("a") as log:
        log.write(f"{line}\n")


class ToyProvider(Provider):
    inputs = ("number", "secret", "sleep_s")

    def create(self, props: Props) -> CreateResult:
        Reporter().info("said on its own row")
        Reporter().progress("half way")
        note(f"{os.getpid()} {current_urn()}")
        time.sleep(props["sleep_s"])
        if props["sleep_s"]:
            note(f"slept {props['number']}")
        return CreateResult(f"toy-{props['number']}", self.stored(props))

    def read(self, id_: str, props: Props) -> ReadResult:
        return ReadResult(id_, {**props, "number": 99})


class Toy(Resource, module="toy", name="Toy"):
    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(ToyProvider(), name, props, opts)
