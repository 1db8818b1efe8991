"""What Longhorn says of its nodes, volumes and replicas: the part that a removal has to know.

The wire is the Kubernetes API, https://longhorn.io/docs/1.12.1/references/longhorn-client-python/ and the CRDs of
longhorn.io/v1beta2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

GROUP = "/apis/longhorn.io/v1beta2/namespaces/longhorn-system"
MARK = "homelab/evacuating"  # annotation of a node whose removal is under way


class Api(Protocol):
    """The part of a cluster's API that is used here."""

    def look(self, path: str) -> Mapping[str, Any] | None:
        """Any object or list; None when there is no such thing."""


@dataclass(frozen=True)
class Disk:
    """One disk of a node; sizes in bytes.

    Attributes:
        takes: whether it is open for replicas.
        room_bytes: what may still be promised on it.
    """

    takes: bool
    room_bytes: int


@dataclass(frozen=True)
class Node:
    """A Longhorn node.

    Attributes:
        ready: its manager answers.
        takes: it is open for replicas; a cordoned one is not.
        leaving: it was marked by a removal of ours.
    """

    name: str
    ready: bool
    takes: bool
    leaving: bool
    disks: tuple[Disk, ...]

    @classmethod
    def parse(cls, item: Mapping[str, Any]) -> Node:
        """Take what matters out of a Node of longhorn.io."""
        spec, status = item.get("spec", {}), item.get("status", {})
        seen = status.get("diskStatus") or {}
        disks = {name: (disk, seen.get(name) or {}) for name, disk in (spec.get("disks") or {}).items()}
        return cls(
            name=item["metadata"]["name"],
            ready=_holds(status, "Ready"),
            takes=bool(spec.get("allowScheduling")) and not spec.get("evictionRequested") and _is_open(status),
            leaving=MARK in (item["metadata"].get("annotations") or {}),
            disks=tuple(_disk(wished, found) for wished, found in disks.values()),
        )

    def has_room(self, size_bytes: int) -> bool:
        """Whether a replica of that size can be put here."""
        return self.takes and any(disk.takes and disk.room_bytes >= size_bytes for disk in self.disks)


@dataclass(frozen=True)
class Volume:
    """A volume. `robustness` is `unknown` while it is detached, which is no fault."""

    name: str
    size_bytes: int
    wanted: int
    state: str
    robustness: str
    claim: str

    @classmethod
    def parse(cls, item: Mapping[str, Any]) -> Volume:
        """Take what matters out of a Volume of longhorn.io."""
        spec, status = item.get("spec", {}), item.get("status", {})
        user = status.get("kubernetesStatus") or {}
        claim = f"{user['namespace']}/{user['pvcName']}" if user.get("pvcName") else ""
        return cls(
            name=item["metadata"]["name"],
            size_bytes=int(spec.get("size") or 0),
            wanted=int(spec.get("numberOfReplicas") or 1),
            state=str(status.get("state", "")),
            robustness=str(status.get("robustness", "")),
            claim=claim,
        )

    @property
    def settled(self) -> bool:
        """Whether all of its replicas are as they should be."""
        return self.robustness == "healthy" or self.state == "detached"

    def __str__(self) -> str:
        return f"{self.name} ({self.claim})" if self.claim else self.name


@dataclass(frozen=True)
class Replica:
    """A copy of a volume's data. `healthy`: it has been whole, and has not failed since."""

    volume: str
    node: str
    healthy: bool

    @classmethod
    def parse(cls, item: Mapping[str, Any]) -> Replica:
        """Take what matters out of a Replica of longhorn.io."""
        spec = item.get("spec", {})
        healthy = bool(spec.get("healthyAt")) and not spec.get("failedAt")
        return cls(str(spec.get("volumeName", "")), str(spec.get("nodeID", "")), healthy)


@dataclass(frozen=True)
class Scene:
    """All of it, read at one time."""

    nodes: Mapping[str, Node]
    volumes: Mapping[str, Volume]
    replicas: tuple[Replica, ...]
    shares_nodes: bool  # replica-soft-anti-affinity: two replicas of a volume may be on one node

    def on(self, node: str) -> tuple[Replica, ...]:
        """The replicas on a node."""
        return tuple(replica for replica in self.replicas if replica.node == node)

    def volumes_on(self, node: str) -> tuple[Volume, ...]:
        """The volumes that have a replica on a node, by name."""
        names = sorted({replica.volume for replica in self.on(node)})
        return tuple(self.volumes[name] for name in names if name in self.volumes)

    def safe_without(self, volume: Volume, node: str) -> bool:
        """Whether a whole replica is on another node that answers."""
        return any(
            replica.healthy and replica.volume == volume.name and replica.node != node and self._answers(replica.node)
            for replica in self.replicas
        )

    def takers(self, volume: Volume, node: str) -> tuple[str, ...]:
        """The nodes that the replica on `node` can move to."""
        holders = {replica.node for replica in self.replicas if replica.volume == volume.name}
        return tuple(
            other.name
            for other in self.nodes.values()
            if other.name != node
            and other.has_room(volume.size_bytes)
            and (self.shares_nodes or other.name not in holders)
        )

    def _answers(self, node: str) -> bool:
        return node in self.nodes and self.nodes[node].ready


def observe(api: Api) -> Scene | None:
    """What Longhorn has; None where there is no Longhorn."""
    nodes = api.look(f"{GROUP}/nodes")
    if nodes is None:
        return None
    return Scene(
        nodes={node.name: node for node in map(Node.parse, nodes["items"])},
        volumes={volume.name: volume for volume in map(Volume.parse, _items(api, "volumes"))},
        replicas=tuple(map(Replica.parse, _items(api, "replicas"))),
        shares_nodes=(api.look(f"{GROUP}/settings/replica-soft-anti-affinity") or {}).get("value") == "true",
    )


def _items(api: Api, plural: str) -> Iterable[Mapping[str, Any]]:
    found = api.look(f"{GROUP}/{plural}")
    return () if found is None else tuple(found["items"])


def _disk(wished: Mapping[str, Any], found: Mapping[str, Any]) -> Disk:
    usable = int(found.get("storageMaximum") or 0) - int(wished.get("storageReserved") or 0)
    return Disk(
        takes=bool(wished.get("allowScheduling")) and not wished.get("evictionRequested") and bool(found),
        room_bytes=usable - int(found.get("storageScheduled") or 0),
    )


def _is_open(status: Mapping[str, Any]) -> bool:
    closed = any(c.get("type") == "Schedulable" and c.get("status") == "False" for c in status.get("conditions") or ())
    return _holds(status, "Ready") and not closed


def _holds(status: Mapping[str, Any], kind: str) -> bool:
    return any(c.get("type") == kind and c.get("status") == "True" for c in status.get("conditions") or ())
