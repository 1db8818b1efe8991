"""Has the pods of a node leave before the node does, as `kubectl drain` does, but never for ever (4c.25)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from providers.deadline import Deadline
from providers.errors import UnreachableError

POLL_S = 0.25
MIRROR = "kubernetes.io/config.mirror"


@dataclass(frozen=True)
class Stuck:
    """A pod that did not leave, and why, in the API server's words."""

    namespace: str
    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name} ({self.reason})"


@dataclass(frozen=True)
class Drained:
    """What a drain came to.

    Attributes:
        evicted: how many pods were asked to leave and did.
        left: the pods that did not.
    """

    evicted: int
    left: tuple[Stuck, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether nothing is left that should have gone."""
        return not self.left


class Api(Protocol):
    """The part of a cluster's API that a drain uses."""

    def cordon(self, name: str, deadline: Deadline) -> bool:
        """Keep new pods off; False when there is no such node."""

    def node(self, name: str) -> Any:
        """The node, with `ready`; None when there is none."""

    def pods(self, node: str) -> tuple[Mapping[str, Any], ...]:
        """The node's v1 Pods."""

    def evict(self, pod: Mapping[str, Any]) -> str | None:
        """Ask a pod to leave; says why it may not."""


def drain(api: Api, name: str, deadline: Deadline, progress: Callable[[str], None]) -> Drained:
    """Cordon a node, then evict its pods, again and again until all have left or the deadline is over.

    Disruption budgets are kept to. DaemonSets' pods, static (mirror) pods and completed pods stay. emptyDir data
    goes with its pod. On a node whose kubelet is dead nobody can confirm that a pod has ended; there the drain is
    over as soon as every pod was told to go.

    Raises:
        UnreachableError: the API was away from the beginning to the end.
        AuthError, RefusedError: as all calls.
    """
    if not api.cordon(name, deadline):
        progress(f"{name}: the cluster does not know this node, nothing to drain")
        return Drained(0)
    return _Round(api, name, progress).until(deadline)


class _Round:
    """One drain: what was asked to leave, and what was answered."""

    def __init__(self, api: Api, name: str, progress: Callable[[str], None]) -> None:
        self._api, self._name, self._progress = api, name, progress
        self._asked: set[str] = set()
        self._left: dict[str, Stuck] = {}
        self._away: UnreachableError | None = None
        self._listed = False
        self._said = ""

    def until(self, deadline: Deadline) -> Drained:
        while not (self._settled() or deadline.expired):
            deadline.sleep(POLL_S)
        if not self._listed and self._away:
            raise self._away
        return Drained(len(self._asked - self._left.keys()), tuple(self._left.values()))

    def _settled(self) -> bool:
        """Ask all that are still there; say whether waiting any longer is of no use."""
        try:
            pods = {pod["metadata"]["uid"]: pod for pod in leaving(self._api.pods(self._name))}
            self._listed = True
            self._left = {uid: self._ask(pod) for uid, pod in pods.items()}
            self._say(f"{self._name}: {_count(len(pods))} left" if pods else f"{self._name}: no pods left")
            return not pods or (all(map(_terminating, pods.values())) and not self._kubelet_alive())
        except UnreachableError as exc:
            self._away = exc
            self._say(f"{self._name}: waiting for the API ({exc})")
            return False

    def _ask(self, pod: Mapping[str, Any]) -> Stuck:
        metadata = pod["metadata"]
        if _terminating(pod):
            reason = "told to go, has not ended yet"
        else:
            if metadata["uid"] not in self._asked and not _controller(pod):
                self._progress(f"{self._name}: {metadata['name']} has no controller and will not come back elsewhere")
            reason = self._api.evict(pod) or "told to go, has not ended yet"
        self._asked.add(metadata["uid"])
        return Stuck(metadata["namespace"], metadata["name"], reason)

    def _kubelet_alive(self) -> bool:
        view = self._api.node(self._name)
        return bool(view and view.ready)

    def _say(self, word: str) -> None:
        if word != self._said:
            self._said = word
            self._progress(word)


def leaving(pods: Iterable[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """Those of a node's pods that a drain moves."""
    return tuple(pod for pod in pods if not _stays(pod))


def _stays(pod: Mapping[str, Any]) -> bool:
    owner = _controller(pod)
    return (
        MIRROR in pod["metadata"].get("annotations", {})
        or (owner is not None and owner["kind"] == "DaemonSet")
        or pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
    )


def _controller(pod: Mapping[str, Any]) -> Mapping[str, Any] | None:
    owners = pod["metadata"].get("ownerReferences", ())
    return next((owner for owner in owners if owner.get("controller")), None)


def _terminating(pod: Mapping[str, Any]) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def _count(number: int) -> str:
    return "1 pod" if number == 1 else f"{number} pods"
