"""Clusters and machines that are there in memory only, and write down what is done to them, in order."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, Self

from providers.deadline import Deadline
from providers.errors import UnreachableError
from providers.kubernetes.drain import Drained
from providers.netboot import power


@dataclass
class View:
    """A node as a cluster shows it."""

    boot_id: str
    ready: bool = True
    reason: str = ""


@dataclass
class World:
    """What all machines and their cluster do, in order."""

    nodes: dict[str, View] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    dead: set[str] = field(default_factory=set)
    away: bool = False
    name: str = ""  # where there are several clusters: stands before what is done in one
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, text: str) -> None:
        with self.lock:
            self.done.append(f"{self.name}{text}")


@dataclass
class FakeKube:
    """A cluster's API."""

    world: World

    def __enter__(self) -> Self:
        if self.world.away:
            raise UnreachableError("the API is away")
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def node(self, name: str) -> View | None:
        return self.world.nodes.get(name)

    def wait_ready(self, name: str, deadline: Deadline, _progress: Any) -> View:
        def ready() -> View | None:
            view = self.world.nodes.get(name)
            return view if view is not None and view.ready else None

        return deadline.poll(ready, f"{name}: Ready", 0.01)

    def patiently(self, probe: Any, what: str, deadline: Deadline, _seen: Any = None) -> Any:
        return deadline.poll(probe, what, 0.01)

    def drain(self, name: str, *_: Any) -> Drained:
        self.world.note(f"drain {name}")
        return Drained(0)

    def cordon(self, name: str, *_: Any, unschedulable: bool = True) -> bool:
        self.world.note(f"{'cordon' if unschedulable else 'uncordon'} {name}")
        return True

    def delete_node(self, name: str, *_: Any) -> bool:
        self.world.note(f"delete {name}")
        return self.world.nodes.pop(name, None) is not None


@dataclass
class FakePower:
    """A machine's power; it boots into the cluster of its world."""

    world: World
    name: str
    restarts: bool = True

    def start(self, _say: power.Say) -> None:
        self._boots("start")

    def restart(self, _say: power.Say) -> None:
        self._boots("restart")

    def stop(self, _say: power.Say) -> None:
        self.world.note(f"stop {self.name}")

    def _boots(self, how: str) -> None:
        self.world.note(f"{how} {self.name}")
        before = self.world.nodes.get(self.name)
        if self.name not in self.world.dead:
            self.world.nodes[self.name] = View((before.boot_id if before else "boot") + "+")
