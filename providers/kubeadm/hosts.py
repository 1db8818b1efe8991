"""Several hosts at once: who answers, and what each of them is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from providers.errors import HomelabError, RefusedError, UnreachableError
from providers.kubeadm.host import Seen, Shell, Stage, ca_hash, observe
from providers.kubeadm.wish import Cluster, Node
from providers.ssh.client import Target, connect

LOOK_S = 30.0  # how long a host may take to answer when it is only one of several to ask

Connect = Callable[[Target, float], AbstractContextManager[Shell]]
T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """A host of the cluster and the way to it."""

    node: Node
    target: Target


@dataclass(frozen=True)
class Survey:
    """What all asked hosts are.

    Attributes:
        seen: host to what is on it.
        silent: host to why it was not looked at.
    """

    seen: Mapping[str, Seen]
    silent: Mapping[str, HomelabError]

    def initialised(self, cluster: str) -> tuple[str, ...]:
        """The control planes that are whole members of this cluster, in the order of their names."""
        return tuple(
            sorted(
                name
                for name, seen in self.seen.items()
                if seen.claim.cluster == cluster
                and seen.claim.stage is Stage.DONE
                and seen.is_whole(control_plane=True)
            )
        )


def survey(places: Mapping[str, Place], dial: Connect = connect) -> Survey:
    """Look at all hosts at once; one that does not answer is noted, not raised."""

    def look(name: str) -> Seen | HomelabError:
        try:
            with dial(places[name].target, LOOK_S) as host:
                return observe(host)
        except UnreachableError as error:
            return error

    with ThreadPoolExecutor(max(1, len(places))) as pool:
        found = dict(zip(places, pool.map(look, places), strict=True))
    return Survey(
        {name: item for name, item in found.items() if isinstance(item, Seen)},
        {name: item for name, item in found.items() if isinstance(item, HomelabError)},
    )


def refuse_two_clusters(cluster: Cluster, found: Survey) -> None:
    """All initialised control planes are of one cluster.

    Raises:
        RefusedError: they have different CAs: there are two clusters of this name.
    """
    pins: dict[str, list[str]] = {}
    for name in found.initialised(cluster.name):
        pins.setdefault(ca_hash(found.seen[name].ca), []).append(name)
    if len(pins) > 1:
        sides = " and ".join(", ".join(names) for names in pins.values())
        raise RefusedError(
            f"{cluster.name}: {sides} have different CAs, so they are different clusters; nothing was done. Decide "
            "which one stays, and raise `generation` of the hosts of the other"
        )


@contextmanager
def any_control_plane(
    cluster: Cluster, places: Mapping[str, Place], dial: Connect = connect, besides: str = ""
) -> Iterator[Shell]:
    """A connection to a control plane that is a whole member; whichever answers.

    Raises:
        UnreachableError: there is none; says what was seen of each.
    """
    others = {name: place for name, place in places.items() if name != besides}
    found = survey(others, dial)
    up = found.initialised(cluster.name)
    if not up:
        raise UnreachableError(f"{cluster.name}: no control plane is up to help; {_words(found)}; start one of them")
    with dial(others[up[0]].target, LOOK_S) as host:
        yield host


def _words(found: Survey) -> str:
    words = [f"{name}: {error}" for name, error in sorted(found.silent.items())]
    words += [f"{name}: is no member of it" for name in sorted(found.seen)]
    return "; ".join(words) or "there are no others"
