"""Where replicas really are: a file on the disk of a machine, that a wipe takes along. Events tell what became of it.

Every replica is on the EPHEMERAL partition, whatever Longhorn's data path is.
"""

from __future__ import annotations

from pathlib import Path

from twin.disk import write
from twin.kubernetes.api import Object
from twin.kubernetes.players import kinds as k
from twin.kubernetes.players.world import World, at
from twin.lab import Lab
from twin.machine import Machine


def machine(world: World, node: str) -> Machine | None:
    """The machine of a Kubernetes node, by its address."""
    found = world.get(k.NODE, node)
    addresses = {entry["address"] for entry in at(found, "status", "addresses") or []}
    return next((m for m in world.lab.machines.values() if str(m.spec.address) in addresses), None)


def put(world: World, replica: Object) -> bool:
    """Write a replica's data to the disk of its node; False when there is no such machine."""
    on = machine(world, replica["spec"]["nodeID"])
    if on is None:
        return False
    path = _path(on, replica["metadata"]["name"])
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write(path, replica["spec"]["volumeName"].encode())
    _tell(world.lab, "longhorn_replica_added", replica, on)
    return True


def whole(lab: Lab, replica: Object) -> bool:
    """Whether a replica's data is on the disk of some machine, with or without power."""
    return _holder(lab, replica) is not None


def drop(lab: Lab, replica: Object) -> None:
    """Longhorn deletes a replica's data."""
    on = _holder(lab, replica)
    if on is not None:
        _path(on, replica["metadata"]["name"]).unlink(missing_ok=True)
        _tell(lab, "longhorn_replica_removed", replica, on)


def lost(lab: Lab, replica: Object, others: list[Object]) -> None:
    """A replica's data vanished without Longhorn's doing; without any other the volume is lost."""
    _tell(lab, "longhorn_replica_lost", replica, None)
    if not any(whole(lab, other) for other in others):
        lab.events.emit("longhorn_volume_lost", volume=replica["spec"]["volumeName"])


def _holder(lab: Lab, replica: Object) -> Machine | None:
    name = replica["metadata"]["name"]
    return next((machine for machine in lab.machines.values() if _path(machine, name).exists()), None)


def _path(on: Machine, replica: str) -> Path:
    return on.disk.ephemeral / "longhorn" / replica


def _tell(lab: Lab, kind: str, replica: Object, on: Machine | None) -> None:
    about = {"volume": replica["spec"]["volumeName"], "replica": replica["metadata"]["name"]}
    lab.events.emit(kind, node=on.name if on else None, kubernetes_node=replica["spec"]["nodeID"], **about)
