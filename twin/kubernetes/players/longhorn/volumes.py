"""Longhorn's volumes and their replicas: made for claims, failed, rebuilt, moved off nodes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator

from twin.kubernetes.api import Object
from twin.kubernetes.players import kinds as k
from twin.kubernetes.players.longhorn import data, nodes
from twin.kubernetes.players.longhorn.settings import setting
from twin.kubernetes.players.quantity import in_bytes
from twin.kubernetes.players.world import World, at, key

_REBUILD_S = 60  # device seconds for one replica (an estimate)
_STALE_MIN = 30
_DATA = "twin/data"  # annotation: `whole` once the data is on a disk, `lost` when it vanished from there


async def provision(world: World, name: str, claim: Object, found: Object) -> Object | None:
    """Make the volume of a claim; None when not one replica finds a node."""
    manager = k.daemon_set(world, "longhorn-manager")
    size = in_bytes(claim["spec"]["resources"]["requests"]["storage"])
    if manager is None:
        return None
    namespace = manager["metadata"]["namespace"]
    volume = world.get(k.LONGHORN_VOLUME, name, namespace)
    if volume is None and not nodes.taker(world, namespace, size, set()):
        return None
    if volume is None:
        about = {"name": name, "namespace": namespace}
        volume = await world.create(k.LONGHORN_VOLUME, {"metadata": about, "spec": _spec(claim, found, size)})
    held = {replica["spec"]["nodeID"] for replica in _replicas(world, volume)}
    for _ in range(int(volume["spec"]["numberOfReplicas"]) - len(held)):
        node = nodes.taker(world, namespace, size, held)
        if node:
            await _fill(world, await _add(world, volume, node))
            held.add(node)
    return {"volumeHandle": name, "fsType": at(found, "parameters", "fsType") or "ext4"}


def _spec(claim: Object, found: Object, size_bytes: int) -> Object:
    parameters = found.get("parameters") or {}
    return {
        "size": str(size_bytes),
        "numberOfReplicas": int(parameters.get("numberOfReplicas") or 3),
        "staleReplicaTimeout": int(parameters.get("staleReplicaTimeout") or _STALE_MIN),
        "accessMode": "rwx" if "ReadWriteMany" in claim["spec"]["accessModes"] else "rwo",
        "dataLocality": parameters.get("dataLocality", "disabled"),
        "frontend": "blockdev",
        "nodeID": "",
    }


async def remove(world: World, name: str) -> None:
    """Delete a volume; its replicas follow."""
    for volume in world.all(k.LONGHORN_VOLUME):
        if volume["metadata"]["name"] == name:
            await world.delete(k.LONGHORN_VOLUME, volume)


async def destroy(world: World) -> None:
    """Delete every volume with its data."""
    for volume in world.all(k.LONGHORN_VOLUME):
        await world.delete(k.LONGHORN_VOLUME, volume)
    for replica in world.all(k.LONGHORN_REPLICA):
        await _remove(world, replica)


async def resize(world: World, name: str, size_bytes: int) -> None:
    """A claim asks for more."""
    for volume in world.all(k.LONGHORN_VOLUME):
        if volume["metadata"]["name"] == name:
            await world.patch(k.LONGHORN_VOLUME, volume, {"spec": {"size": str(size_bytes)}})
            for replica in _replicas(world, volume):
                await world.patch(k.LONGHORN_REPLICA, replica, {"spec": {"volumeSize": str(size_bytes)}})


async def play(world: World) -> None:
    """One step for each volume, as its replicas and their nodes are now."""
    volumes = {key(volume): volume for volume in world.all(k.LONGHORN_VOLUME)}
    for replica in world.all(k.LONGHORN_REPLICA):
        if (key(replica)[0], replica["spec"]["volumeName"]) not in volumes:
            await _remove(world, replica)
    used = dict(_used(world))
    for volume in volumes.values():
        await _look(world, volume, used.get(volume["metadata"]["name"], ""))


async def _look(world: World, volume: Object, user: str) -> None:
    for replica in _replicas(world, volume):
        await _check(world, volume, replica)
    for replica in [r for r in _replicas(world, volume) if _annotated(r) == "lost"]:
        if any(_healthy(other) for other in _replicas(world, volume)):
            await _remove(world, replica)  # the last one stays, as what is left to tell of the volume
    for replica in _replicas(world, volume):
        await _follow_node(world, volume, replica, attached=bool(user))
    rebuilding = [r for r in _replicas(world, volume) if not _healthy(r) and not _failed(r)]
    for replica in rebuilding:
        await _rebuild(world, volume, replica)
    moving = any(at(r, "spec", "evictionRequested") for r in _replicas(world, volume))
    if not rebuilding and (user or moving):
        await _mend(world, volume)
    await _show(world, volume, user, busy=bool(rebuilding) or moving)


async def _check(world: World, volume: Object, replica: Object) -> None:
    """Hold a replica against the disks."""
    if (at(replica, "metadata", "annotations") or {}).get(_DATA) != "whole" or data.whole(world.lab, replica):
        return
    others = [other for other in _replicas(world, volume) if key(other) != key(replica)]
    data.lost(world.lab, replica, others)
    body = {"metadata": {"annotations": {_DATA: "lost"}}, "spec": {"failedAt": _now(), "healthyAt": ""}}
    await world.patch(k.LONGHORN_REPLICA, replica, body)


async def _follow_node(world: World, volume: Object, replica: Object, *, attached: bool) -> None:
    """A replica in use fails with its node, unless it is the last one; it is brought up to date when that is back."""
    node = nodes.of(world, key(volume)[0], replica["spec"]["nodeID"])
    up = nodes.ready(node)
    last = not any(_healthy(other) and key(other) != key(replica) for other in _replicas(world, volume))
    if not up and attached and _healthy(replica) and not last:
        replica = await world.patch(k.LONGHORN_REPLICA, replica, {"spec": {"failedAt": _now()}})
    elif up and _failed(replica) and _annotated(replica) == "whole":
        replica = await world.patch(k.LONGHORN_REPLICA, replica, {"spec": {"failedAt": "", "healthyAt": ""}})
    evicted = nodes.leaving(node)
    if bool(replica["spec"].get("evictionRequested")) != evicted:
        replica = await world.patch(k.LONGHORN_REPLICA, replica, {"spec": {"evictionRequested": evicted}})
    state = "unknown" if not up else "error" if _failed(replica) else "running" if attached else "stopped"
    if at(replica, "status", "currentState") != state:
        await world.status(k.LONGHORN_REPLICA, replica, {"currentState": state, "ownerID": replica["spec"]["nodeID"]})


async def _rebuild(world: World, volume: Object, replica: Object) -> None:
    """A rebuild needs a whole replica to read from, and begins anew when either end goes away."""
    what = f"rebuild {replica['metadata']['uid']}"
    if not any(_annotated(other) for other in _replicas(world, volume)):
        await _fill(world, replica)  # a new volume: there is nothing to read yet
        return
    sources = [other for other in _replicas(world, volume) if _healthy(other) and _up(world, other)]
    if not sources or not _up(world, replica):
        world.forget(what)
    elif world.waited(what, _REBUILD_S):
        await _fill(world, replica)


async def _mend(world: World, volume: Object) -> None:
    """One step: take a replica that is too many, or add one that is missing or shall take another's place."""
    replicas = _replicas(world, volume)
    staying = [r for r in replicas if _healthy(r) and not r["spec"].get("evictionRequested")]
    going = [r for r in replicas if _healthy(r) and r["spec"].get("evictionRequested")]
    wanted, missing = int(volume["spec"]["numberOfReplicas"]), f"missing {volume['metadata']['uid']}"
    for replica in filter(_failed, replicas):
        await _forget_failed(world, volume, replica, enough=len(staying) >= wanted)
    if len(staying) + len(going) >= wanted:
        world.forget(missing)
    if len(staying) >= wanted and (going or len(staying) > wanted):
        await _remove(world, (going or staying)[-1])
    elif len(staying) < wanted:
        away = any(_failed(replica) and _annotated(replica) == "whole" for replica in replicas)
        patience_s = int(setting(world, "replica-replenishment-wait-interval") or 600) if away and not going else 0
        held = {replica["spec"]["nodeID"] for replica in replicas if _annotated(replica) != "lost"}
        node = nodes.taker(world, key(volume)[0], int(volume["spec"]["size"]), held)
        if node and node not in held and (not patience_s or world.waited(missing, patience_s)):
            await _add(world, volume, node)


async def _forget_failed(world: World, volume: Object, replica: Object, *, enough: bool) -> None:
    what = f"stale {replica['metadata']['uid']}"
    stale_s = int(volume["spec"].get("staleReplicaTimeout") or _STALE_MIN) * 60
    if enough and world.waited(what, stale_s):
        await _remove(world, replica)


async def _show(world: World, volume: Object, user: str, *, busy: bool) -> None:
    replicas = _replicas(world, volume)
    live = [replica for replica in replicas if _healthy(replica) and _up(world, replica)]
    state = "attached" if user or busy else "detached"
    whole = len(live) >= int(volume["spec"]["numberOfReplicas"])
    robustness = "unknown" if state == "detached" else "healthy" if whole else "degraded" if live else "faulted"
    if not any(_healthy(replica) for replica in replicas):
        robustness = "faulted"
    node = user or (replicas[0]["spec"]["nodeID"] if busy and replicas else "")
    status = {
        "state": state,
        "robustness": robustness,
        "currentNodeID": node,
        "kubernetesStatus": _claim(world, volume["metadata"]["name"]),
        "conditions": [{"type": "Scheduled", "status": "True" if replicas else "False", "reason": "", "message": ""}],
    }
    before = volume.get("status") or {}
    if any(before.get(field) != value for field, value in status.items()):
        await world.status(k.LONGHORN_VOLUME, volume, status)


def _claim(world: World, name: str) -> Object:
    found = world.get(k.VOLUME, name)
    claim = at(found, "spec", "claimRef") or {}
    return {
        "pvName": name if found else "",
        "pvStatus": at(found, "status", "phase") or "",
        "pvcName": claim.get("name", ""),
        "namespace": claim.get("namespace", ""),
    }


def _used(world: World) -> Iterator[tuple[str, str]]:
    """Volumes that a pod uses, with the pod's node."""
    for pod in world.all(k.POD):
        node = pod["spec"].get("nodeName")
        if node and at(pod, "status", "phase") not in ("Succeeded", "Failed"):
            for part in pod["spec"].get("volumes") or []:
                name = at(part, "persistentVolumeClaim", "claimName")
                claim = world.get(k.CLAIM, name, pod["metadata"]["namespace"]) if name else None
                if claim is not None:
                    yield str(claim["spec"].get("volumeName")), str(node)


async def _add(world: World, volume: Object, node: str) -> Object:
    namespace, name = key(volume)
    about = {
        "name": f"{name}-r-{secrets.token_hex(4)}",
        "namespace": namespace,
        "labels": {"longhornvolume": name, "longhornnode": node},
    }
    disks = at(nodes.of(world, namespace, node), "spec", "disks") or {}
    spec = {
        "volumeName": name,
        "volumeSize": volume["spec"]["size"],
        "nodeID": node,
        "diskPath": next((disk["path"] for disk in disks.values()), ""),
        "dataDirectoryName": about["name"],
        "active": True,
        "evictionRequested": False,
        "healthyAt": "",
        "failedAt": "",
    }
    return await world.create(k.LONGHORN_REPLICA, {"metadata": about, "spec": spec})


async def _fill(world: World, replica: Object) -> None:
    """The data is on the disk first, and called whole then."""
    if data.whole(world.lab, replica) or data.put(world, replica):
        body = {"metadata": {"annotations": {_DATA: "whole"}}, "spec": {"healthyAt": _now(), "failedAt": ""}}
        await world.patch(k.LONGHORN_REPLICA, replica, body)


async def _remove(world: World, replica: Object) -> None:
    """It is out of the cluster's list first: a crash between leaves data that nobody counts on."""
    await world.delete(k.LONGHORN_REPLICA, replica)
    data.drop(world.lab, replica)


def _replicas(world: World, volume: Object) -> list[Object]:
    namespace, name = key(volume)
    return [r for r in world.all(k.LONGHORN_REPLICA) if r["spec"]["volumeName"] == name and key(r)[0] == namespace]


def _up(world: World, replica: Object) -> bool:
    return nodes.ready(nodes.of(world, key(replica)[0], replica["spec"]["nodeID"]))


def _healthy(replica: Object) -> bool:
    return bool(replica["spec"].get("healthyAt")) and not replica["spec"].get("failedAt")


def _failed(replica: Object) -> bool:
    return bool(replica["spec"].get("failedAt"))


def _annotated(replica: Object) -> str:
    return str((at(replica, "metadata", "annotations") or {}).get(_DATA) or "")


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
