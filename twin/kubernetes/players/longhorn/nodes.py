"""Longhorn's nodes: one for each node where its manager runs, with a disk and what is scheduled on it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from twin.kubernetes.api import Object
from twin.kubernetes.players import kinds as k
from twin.kubernetes.players.longhorn import data
from twin.kubernetes.players.longhorn.settings import setting
from twin.kubernetes.players.world import World, at, key

_LABEL = "node.longhorn.io/create-default-disk"
_ALWAYS = ("MountPropagation", "RequiredPackages", "KernelModulesLoaded", "NFSClientInstalled", "Multipathd")
_RESERVED_PERCENT = 30


async def play(world: World, manager: Object) -> None:
    """Make the missing ones, and write what is true of each."""
    namespace = manager["metadata"]["namespace"]
    serving = set(_serving(world, manager))
    for name in sorted(serving):
        if world.get(k.LONGHORN_NODE, name, namespace) is None:
            await world.create(k.LONGHORN_NODE, _node(world, name, namespace))
    for node in world.all(k.LONGHORN_NODE):
        await _refuse(world, node)
        await _show(world, node, serving)


def ready(node: Object | None) -> bool:
    """Whether a Longhorn node is Ready."""
    return node is not None and k.condition(node, "Ready")


def leaving(node: Object | None) -> bool:
    """Whether the replicas on a Longhorn node shall go elsewhere: it, or its disk, is closed and being emptied."""
    spec = (node or {}).get("spec") or {}
    disks = list((spec.get("disks") or {}).values())
    return any(part.get("evictionRequested") and not part.get("allowScheduling") for part in [spec, *disks])


def taker(world: World, namespace: str, size_bytes: int, taken: set[str]) -> str:
    """The node for a new replica: open, with room, with none of the volume's yet; empty if there is none."""
    together = setting(world, "replica-soft-anti-affinity") == "true"
    nodes = [node for node in world.all(k.LONGHORN_NODE) if _open(node) and _room(node) >= size_bytes]
    free = [node for node in nodes if together or node["metadata"]["name"] not in taken]
    order = sorted(free, key=lambda n: (n["metadata"]["name"] in taken, -_room(n), n["metadata"]["name"]))
    return order[0]["metadata"]["name"] if order else ""


def _open(node: Object) -> bool:
    spec = node["spec"]
    opened = spec.get("allowScheduling") and not spec.get("evictionRequested")
    return bool(opened) and ready(node) and k.condition(node, "Schedulable")


def _room(node: Object) -> int:
    seen = at(node, "status", "diskStatus") or {}
    rooms = [
        seen[name]["storageMaximum"] - disk.get("storageReserved", 0) - seen[name]["storageScheduled"]
        for name, disk in (node["spec"].get("disks") or {}).items()
        if name in seen and disk.get("allowScheduling") and not disk.get("evictionRequested")
    ]
    return max(rooms, default=-1)


def _serving(world: World, manager: Object) -> Iterator[str]:
    """The names of the nodes with a manager's pod that is ready."""
    for pod in world.all(k.POD):
        owners = [owner["uid"] for owner in at(pod, "metadata", "ownerReferences") or []]
        if manager["metadata"]["uid"] in owners and k.ready(pod) and not at(pod, "metadata", "deletionTimestamp"):
            node = world.get(k.NODE, pod["spec"]["nodeName"])
            if node is not None and k.ready(node):
                yield str(pod["spec"]["nodeName"])


def _node(world: World, name: str, namespace: str) -> Object:
    labels = at(world.get(k.NODE, name), "metadata", "labels") or {}
    labelled_only = setting(world, "create-default-disk-labeled-nodes") == "true"
    disks = {} if labelled_only and labels.get(_LABEL) != "true" else {f"default-disk-{_id(name)}": _disk(world, name)}
    spec = {"name": name, "allowScheduling": True, "evictionRequested": False, "disks": disks, "tags": []}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


def _disk(world: World, name: str) -> Object:
    percent = int(setting(world, "storage-reserved-percentage-for-default-disk") or _RESERVED_PERCENT)
    return {
        "path": setting(world, "default-data-path") or "/var/lib/longhorn/",
        "diskType": "filesystem",
        "allowScheduling": True,
        "evictionRequested": False,
        "storageReserved": _size(world, name) * percent // 100,
        "tags": [],
    }


async def _refuse(world: World, node: Object) -> None:
    """The validating webhook refuses it; here it is taken back when it got through before the policy stood."""
    spec = node["spec"]
    if spec.get("evictionRequested") and spec.get("allowScheduling"):
        message = f"need to disable scheduling on node {node['metadata']['name']} for node eviction"
        await world.say(k.LONGHORN_NODE, node, "longhorn-node-controller", "Refused", message)
        await world.patch(k.LONGHORN_NODE, node, {"spec": {"evictionRequested": False}})


async def _show(world: World, node: Object, serving: set[str]) -> None:
    name = node["metadata"]["name"]
    own = world.get(k.NODE, name)
    up, cordoned = name in serving, bool(at(own, "spec", "unschedulable"))
    why = (
        ""
        if up
        else ("KubernetesNodeGone" if own is None else "ManagerPodDown" if k.ready(own) else "KubernetesNodeNotReady")
    )
    conditions = [_condition("Ready", up, why)]
    conditions.append(_condition("Schedulable", up and not cordoned, "KubernetesNodeCordoned" if cordoned else ""))
    conditions += [_condition(kind, up, "") for kind in _ALWAYS]
    status: Object = {"conditions": conditions, "diskStatus": _disks(world, node, name), "autoEvicting": False}
    before = node.get("status") or {}
    gone = {disk: None for disk in before.get("diskStatus") or {} if disk not in status["diskStatus"]}
    if any(before.get(field) != value for field, value in status.items()):
        replaced = {**_without_old(before, status), **gone}
        await world.status(k.LONGHORN_NODE, node, {**status, "diskStatus": replaced})


def _without_old(before: Object, status: Object) -> Object:
    """A merge keeps what it isn't told to drop: replicas that are gone from a disk are dropped by name."""
    disks = {}
    for name, disk in status["diskStatus"].items():
        old = at(before, "diskStatus", name, "scheduledReplica") or {}
        gone = {replica: None for replica in old if replica not in disk["scheduledReplica"]}
        disks[name] = {**disk, "scheduledReplica": {**disk["scheduledReplica"], **gone}}
    return disks


def _disks(world: World, node: Object, name: str) -> Object:
    replicas = [r for r in world.all(k.LONGHORN_REPLICA) if r["spec"].get("nodeID") == name]
    sizes = {replica["metadata"]["name"]: int(replica["spec"].get("volumeSize") or 0) for replica in replicas}
    size, scheduled = _size(world, name), sum(sizes.values())
    known = at(node, "status", "diskStatus") or {}
    return {
        disk: {
            "diskUUID": _id(f"{name}{disk}"),
            "storageMaximum": size or at(known, disk, "storageMaximum") or 0,
            "storageAvailable": (size or at(known, disk, "storageMaximum") or 0) - scheduled,
            "storageScheduled": scheduled,
            "scheduledReplica": sizes,
            "conditions": [_condition("Ready", True, ""), _condition("Schedulable", True, "")],
        }
        for disk in node["spec"].get("disks") or {}
    }


def _condition(kind: str, true: bool, reason: str) -> Object:
    return {"type": kind, "status": "True" if true else "False", "reason": reason, "message": ""}


def _size(world: World, name: str) -> int:
    machine = data.machine(world, name)
    return machine.spec.disk_bytes if machine else 0


def _id(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def of(world: World, namespace: str, name: str) -> Object | None:
    """A Longhorn node."""
    return world.get(k.LONGHORN_NODE, name, namespace)


def places(volume: Object) -> str:
    """The namespace in which Longhorn lives."""
    return key(volume)[0]
