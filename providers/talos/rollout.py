"""In which order the nodes of one cluster change in one run, and that nobody begins after a failure.

The engine asks for all nodes' updates at once, each in a thread of one process, or only for some of them (`--target`).
So nobody knows beforehand who comes: each joins when it is asked, says which steps it needs, and waits for its turn.
Nothing begins while another one is still being looked at, and what a node needs is found out by looking at it: so a run
that was killed is taken up by the next one.

Steps have an order over all nodes: Talos first (control planes one by one, then workers, several at a time if the
settings say so), then the control plane's pods (the API servers of all control planes, then the controller managers,
then the schedulers), then the kubelets (control planes first), then what Talos itself has put into the cluster.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from providers.errors import RefusedError

GATHER_S = 2.0  # the engine's calls of one run come within this time
_LOOK_AGAIN_S = 0.5


class Step(NamedTuple):
    """One thing that is done to one node; steps are done in their order. Those with the same `kind` may overlap."""

    phase: int
    part: int
    rank: int
    node: str

    @property
    def kind(self) -> tuple[int, int]:
        """What is done, whoever it is done to."""
        return self.phase, self.part


_TALOS, _CONTROL_PLANE, _KUBELET, _MANIFESTS = range(4)


def talos(rank: int, node: str, *, leads: bool) -> Step:
    """The node goes to another version of Talos."""
    return Step(_TALOS, 0 if leads else 1, rank, node)


def control_plane(part: int, rank: int, node: str) -> Step:
    """One of a control plane's pods is exchanged; `part` is its place in their order."""
    return Step(_CONTROL_PLANE, part, rank, node)


def kubelet(rank: int, node: str, *, leads: bool) -> Step:
    """The kubelet is exchanged."""
    return Step(_KUBELET, 0 if leads else 1, rank, node)


def manifests(rank: int, node: str) -> Step:
    """What Talos has put into the cluster is brought to the new version."""
    return Step(_MANIFESTS, 0, rank, node)


@dataclass(eq=False)
class Place:
    """One node's place in a roll-out."""

    rollout: Rollout
    node: str
    looking: bool = True
    steps: list[Step] = field(default_factory=list)
    active: Step | None = None
    begun: bool = False

    def needs(self, steps: list[Step]) -> None:
        """The node was looked at: this is what it needs."""
        self.rollout.noted(self, steps)

    @contextlib.contextmanager
    def turn(self, step: Step, width: int = 1, waiting: Callable[[str], None] = lambda _: None) -> Iterator[None]:
        """Wait for a step's turn, and hold it while the body runs.

        Args:
            step: one that the node needs.
            width: how many nodes may be in steps of this kind at once.
            waiting: told for whom it waits.

        Raises:
            RefusedError: another node failed meanwhile; this step was not begun.
        """
        self.rollout.begin(self, step, width, waiting)
        try:
            yield
        except BaseException:
            self.rollout.fail(self.node)  # before anybody can take this one's end for a success
            raise
        finally:
            self.rollout.end(self)


class Rollout:
    """All nodes of one cluster that change in this process' run.

    Args:
        gather_s: real seconds without a newcomer before anybody begins.
        what: is done to each, in a word.
    """

    def __init__(self, gather_s: float = GATHER_S, what: str = "upgrade") -> None:
        self._gather_s = gather_s
        self._what = what
        self._changed = threading.Condition()
        self._places: list[Place] = []
        self._arrived = 0.0
        self._failed = ""

    @contextlib.contextmanager
    def joined(self, node: str) -> Iterator[Place]:
        """Take part. Whatever ends the body with an error stops everybody who has not begun."""
        place = Place(self, node)
        with self._changed:
            self._places.append(place)
            self._arrived = time.monotonic()
        try:
            yield place
        except BaseException:
            self.fail(node)
            raise
        finally:
            with self._changed:
                self._places.remove(place)
                self._changed.notify_all()

    def busy(self, step: Step) -> tuple[str, ...]:
        """The nodes that are in a step of the same kind at the moment."""
        with self._changed:
            return tuple(p.node for p in self._places if p.active is not None and p.active.kind == step.kind)

    def fail(self, node: str) -> None:
        """Let nobody begin any more; the first who failed is named."""
        with self._changed:
            self._failed = self._failed or node
            self._changed.notify_all()

    # For places

    def noted(self, place: Place, steps: list[Step]) -> None:
        """A place's steps are known."""
        with self._changed:
            place.looking, place.steps = False, sorted(steps)
            self._changed.notify_all()

    def begin(self, place: Place, step: Step, width: int, waiting: Callable[[str], None]) -> None:
        """Wait until a place's step may begin, and begin it."""
        with self._changed:
            while True:
                if self._failed:
                    raise RefusedError(self._refusal(place))
                before = self._before(place, step, width)
                if before is None:
                    break
                waiting(before)
                self._changed.wait(_LOOK_AGAIN_S)
            place.steps.remove(step)
            place.active, place.begun = step, True

    def end(self, place: Place) -> None:
        """A place's step is over."""
        with self._changed:
            place.active = None
            self._changed.notify_all()

    def _refusal(self, place: Place) -> str:
        how_far = "not finished" if place.begun else "not begun"
        whose = f"{self._failed}'s {self._what}"
        return f"{place.node}: {how_far}: {whose} failed; see its message, and run this again then"

    def _before(self, place: Place, step: Step, width: int) -> str | None:
        """Whom a step waits for, in words; None when it may begin."""
        others = [other for other in self._places if other is not place]
        looking = [other.node for other in others if other.looking]
        if looking:
            return f"waiting until {looking[0]} was looked at"
        if time.monotonic() - self._arrived < self._gather_s:
            return "waiting for the others"
        ahead = [p for p in others if p.active is not None or any(pending < step for pending in p.steps)]
        if all(self._overlaps(p, step) for p in ahead) and len(ahead) < width:
            return None
        return f"waiting for its turn, after {', '.join(p.node for p in ahead)}"

    @staticmethod
    def _overlaps(other: Place, step: Step) -> bool:
        """Whether all that another one does now and before `step` is of the same kind."""
        now = [other.active] if other.active is not None else []
        return all(it.kind == step.kind for it in (*now, *(pending for pending in other.steps if pending < step)))


_rollouts: dict[str, Rollout] = {}
_lock = threading.Lock()


def of(cluster: str, what: str = "upgrade") -> Rollout:
    """The roll-out of a cluster in this run: one process serves one run of the engine."""
    with _lock:
        return _rollouts.setdefault(cluster, Rollout(what=what))
