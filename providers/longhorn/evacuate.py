"""Moves the replicas off a node before it is drained and wiped (FAILURE-MODES 4c.25). The last whole one never goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from providers.deadline import Deadline
from providers.errors import DeadlineError, HomelabError, RefusedError
from providers.longhorn.scene import GROUP, MARK, Node, Scene, Volume, observe

NODES = f"{GROUP}/nodes"
POLL_S = 1.0
AWAY_LOOKS = 30  # that long without an answer is no restart
GIVE_UP_S = 30.0
MOST_NAMED = 3

Progress = Callable[[str], None]


class Api(Protocol):
    """The part of a cluster's API that is used here; `providers.kubernetes.client.Kube` is one."""

    def look(self, path: str) -> Mapping[str, Any] | None:
        """Any object or list; None when there is no such thing."""

    def merge(self, path: str, body: Mapping[str, Any], deadline: Deadline) -> bool:
        """Merge into an object; False when there is none."""

    def remove(self, path: str, deadline: Deadline) -> bool:
        """Delete an object; False when there was none."""


def evacuate(api: Api, node: str, deadline: Deadline, progress: Progress, *, comes_back: bool = False) -> bool:
    """Have Longhorn move every replica from `node` to others; says whether there was anything to do.

    A node that does not answer can give nothing away: it may go when every volume has a whole replica elsewhere.
    Repeating it goes on where it was.

    Args:
        api: the cluster's.
        node: which is to go.
        deadline: for all of it.
        progress: told what is still to move.
        comes_back: it is only installed anew, so a replica that fits nowhere else may be rebuilt on it afterwards, as
            long as there is another whole one.

    Raises:
        RefusedError: a volume's last whole replica is there, no other node can take a replica, or they have not moved
            in time; the node then takes replicas again.
    """
    scene = observe(api)
    if scene is None or node not in scene.nodes:
        return False
    _refuse(scene, node, comes_back=comes_back)
    _set(api, node, deadline, leaving=True)
    if not scene.nodes[node].ready:
        progress(f"{node}: Longhorn does not reach it; its volumes are whole without it")
        return False
    moving = [volume for volume in scene.volumes_on(node) if scene.takers(volume, node)]
    if moving:
        _wait(api, node, moving, deadline, progress)
    return bool(moving)


def give_up(api: Api, node: str, deadline: Deadline) -> bool:
    """Let a node take replicas again when a removal had closed it; one that its owner closed stays closed."""
    found = api.look(f"{NODES}/{node}")
    if found is None or not Node.parse(found).leaving:
        return False
    return _set(api, node, deadline, leaving=False)


def forget(api: Api, node: str, deadline: Deadline) -> bool:
    """Delete Longhorn's own node once Kubernetes has none of that name; says whether there was one.

    Raises:
        RefusedError, DeadlineError: Longhorn still finds something on it.
    """
    if api.look(f"{NODES}/{node}") is None:
        return False
    return deadline.poll(lambda: _forgotten(api, node, deadline), f"{node}: leaving Longhorn", POLL_S)


def refusals(scene: Scene, node: str, *, comes_back: bool = False) -> tuple[str, ...]:
    """Why a node must not go: one sentence for each reason, with the volumes that it concerns."""
    concerned: dict[tuple[str, str], list[Volume]] = {}
    for volume in scene.volumes_on(node):
        reason = _reason(scene, node, volume, comes_back=comes_back)
        if reason is not None:
            concerned.setdefault(reason, []).append(volume)
    return tuple(f"{what.format(_named(volumes))}: {fix}" for (what, fix), volumes in concerned.items())


def _reason(scene: Scene, node: str, volume: Volume, *, comes_back: bool) -> tuple[str, str] | None:
    """What a volume would lose, and what helps."""
    safe, alive = scene.safe_without(volume, node), scene.nodes[node].ready
    if not safe and not alive:
        what = "the last replica of {} is on it and it does not answer"
        return what, "bring it back, or delete the volume"
    if not safe and volume.wanted > 1:
        what = "the last healthy replica of {} is on it"
        return what, "wait until Longhorn has rebuilt another, or delete the volume"
    if alive and not scene.takers(volume, node) and not (comes_back and safe):
        fix = "add a node or disk space" if volume.wanted == 1 else "lower its number of replicas, or add a node"
        return "no other node can take the replica of {}", fix
    return None


def _named(volumes: Sequence[Volume]) -> str:
    """Volumes by name; not all of many."""
    shown = ", ".join(str(volume) for volume in volumes[:MOST_NAMED])
    more = len(volumes) - MOST_NAMED
    return f"{shown} and {more} more" if more > 0 else shown


def _refuse(scene: Scene, node: str, *, comes_back: bool) -> None:
    found = refusals(scene, node, comes_back=comes_back)
    if found:
        raise RefusedError(f"{node} is not taken out: {'; '.join(found)}")


def _set(api: Api, node: str, deadline: Deadline, *, leaving: bool) -> bool:
    """Both fields in one patch: Longhorn refuses an eviction from a node that is open for replicas."""
    body = {
        "metadata": {"annotations": {MARK: "true" if leaving else None}},
        "spec": {"allowScheduling": not leaving, "evictionRequested": leaving},
    }
    return api.merge(f"{NODES}/{node}", body, deadline)


def _wait(api: Api, node: str, moving: Iterable[Volume], deadline: Deadline, progress: Progress) -> None:
    moves = _Moves(api, node, {volume.name for volume in moving}, progress)
    try:
        deadline.poll(moves.done, node, POLL_S)
    except DeadlineError:
        _set(api, node, Deadline(GIVE_UP_S), leaving=False)
        raise RefusedError(
            f"{node} is not taken out: after {deadline.seconds:.0f} s {moves.said}; it takes replicas again. "
            "Look at Longhorn's UI for what holds them, then run this again"
        ) from None
    except HomelabError:
        _set(api, node, Deadline(GIVE_UP_S), leaving=False)
        raise


class _Moves:
    """Watches the replicas of `moving` leave."""

    def __init__(self, api: Api, node: str, moving: set[str], progress: Progress) -> None:
        self.said = ""
        self._api, self._node, self._moving, self._progress = api, node, moving, progress
        self._away = 0

    def done(self) -> bool | None:
        """Whether waiting has an end.

        Raises:
            RefusedError: the node has died meanwhile, with the last whole replica of a volume.
        """
        scene = observe(self._api)
        if scene is None:
            return True
        if self._has_died(scene):
            _refuse(scene, self._node, comes_back=False)
            self._say("Longhorn does not reach it any more; its volumes are whole without it")
            return True
        word = _progress(scene, self._node, self._moving)
        if word:
            self._say(word)
        return None if word else True

    def _has_died(self, scene: Scene) -> bool:
        """A manager that is started anew is away for a moment."""
        found = scene.nodes.get(self._node)
        self._away = 0 if found is not None and found.ready else self._away + 1
        return self._away >= AWAY_LOOKS

    def _say(self, word: str) -> None:
        if word != self.said:
            self.said = word
            self._progress(f"{self._node}: {word}")


def _progress(scene: Scene, node: str, moving: set[str]) -> str:
    """What is still to come; empty when nothing is."""
    left = [volume for volume in scene.volumes_on(node) if volume.name in moving]
    if left:
        return f"{len(left)} of {len(moving)} replicas to move: {_named(left)}"
    unsettled = [v for v in scene.volumes.values() if v.name in moving and not v.settled]
    return f"waiting for {_named(unsettled)} to be healthy" if unsettled else ""


def _forgotten(api: Api, node: str, deadline: Deadline) -> bool | None:
    try:
        api.remove(f"{NODES}/{node}", deadline)
    except RefusedError:
        if deadline.expired:
            raise
        return None  # its manager's pod, or a replica's object, is still on the way out
    return True
