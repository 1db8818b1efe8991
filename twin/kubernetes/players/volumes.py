"""The CSI controllers of NFS and Longhorn: a claim gets its volume, a released volume goes, a claim may grow."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from twin.kubernetes.api import Object
from twin.kubernetes.players import kinds as k
from twin.kubernetes.players.longhorn import volumes as longhorn
from twin.kubernetes.players.quantity import in_bytes
from twin.kubernetes.players.world import World, at, key

_PROVISIONER = "volume.kubernetes.io/storage-provisioner"
_SELECTED = "volume.kubernetes.io/selected-node"
_PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
_FINALIZER = "external-provisioner.volume.kubernetes.io/finalizer"


@dataclass(frozen=True)
class Driver:
    """A CSI driver: what it makes behind a PersistentVolume, and what runs of it."""

    name: str
    provisioner: str  # the Deployments that must run
    resizer: str
    make: Callable[[World, str, Object, Object], Awaitable[Object | None]]  # gives the `csi` of the volume
    drop: Callable[[World, str], Awaitable[None]]
    grow: Callable[[World, str, int], Awaitable[None]]


async def play(world: World) -> None:
    """One look at all claims and volumes of each driver that runs."""
    for driver in (_NFS, _LONGHORN):
        if k.deployment(world, driver.provisioner) is not None:
            for claim in world.all(k.CLAIM):
                await _provision(world, driver, claim)
            for volume in world.all(k.VOLUME):
                await _reclaim(world, driver, volume)
        if k.deployment(world, driver.resizer) is not None:
            for claim in world.all(k.CLAIM):
                await _grow(world, driver, claim)


async def _provision(world: World, driver: Driver, claim: Object) -> None:
    annotations = at(claim, "metadata", "annotations") or {}
    name = f"pvc-{claim['metadata']['uid']}"
    asked = annotations.get(_PROVISIONER) == driver.name and not claim["spec"].get("volumeName")
    if not asked or at(claim, "metadata", "deletionTimestamp") or world.get(k.VOLUME, name) is not None:
        return
    found = world.get(k.STORAGE_CLASS, str(claim["spec"].get("storageClassName") or ""))
    waits = at(found, "volumeBindingMode") == "WaitForFirstConsumer" and not annotations.get(_SELECTED)
    if found is None or waits:
        return
    source = await driver.make(world, name, claim, found)
    if source is None:
        message = f'failed to provision volume with StorageClass "{found["metadata"]["name"]}": no node has room'
        await world.say(k.CLAIM, claim, driver.name, "ProvisioningFailed", message)
        return
    await world.create(k.VOLUME, _volume(name, driver, claim, found, source))


def _volume(name: str, driver: Driver, claim: Object, found: Object, source: Object) -> Object:
    policy = found.get("reclaimPolicy", "Delete")
    meta = claim["metadata"]
    about = {key: meta[key] for key in ("name", "namespace", "uid", "resourceVersion")}
    spec = {
        "accessModes": claim["spec"]["accessModes"],
        "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
        "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **about},
        "csi": {"driver": driver.name, **source},
        "mountOptions": found.get("mountOptions") or [],
        "persistentVolumeReclaimPolicy": policy,
        "storageClassName": found["metadata"]["name"],
        "volumeMode": claim["spec"].get("volumeMode", "Filesystem"),
    }
    finalizers = [_FINALIZER] if policy == "Delete" else []
    return {
        "metadata": {"name": name, "annotations": {_PROVISIONED_BY: driver.name}, "finalizers": finalizers},
        "spec": spec,
    }


async def _reclaim(world: World, driver: Driver, volume: Object) -> None:
    meta = volume["metadata"]
    deletes = volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete"
    if (meta.get("annotations") or {}).get(_PROVISIONED_BY) != driver.name or not deletes:
        return
    bound = at(volume, "status", "phase") in ("Bound", "Pending", None)
    if bound or (meta.get("deletionTimestamp") and _FINALIZER not in meta.get("finalizers", [])):
        return
    await driver.drop(world, meta["name"])
    if not meta.get("deletionTimestamp"):
        await world.delete(k.VOLUME, volume)
        return  # seen again with its time of deletion
    kept = [name for name in meta["finalizers"] if name != _FINALIZER]
    await world.patch(k.VOLUME, volume, {"metadata": {"finalizers": kept}})


async def _grow(world: World, driver: Driver, claim: Object) -> None:
    volume = world.get(k.VOLUME, str(claim["spec"].get("volumeName") or ""))
    if volume is None or at(volume, "spec", "csi", "driver") != driver.name or at(claim, "status", "phase") != "Bound":
        return
    asked = claim["spec"]["resources"]["requests"]["storage"]
    if in_bytes(asked) > in_bytes(volume["spec"]["capacity"]["storage"]):
        await driver.grow(world, volume["metadata"]["name"], in_bytes(asked))
        await world.patch(k.VOLUME, volume, {"spec": {"capacity": {"storage": asked}}})
    if in_bytes(asked) > in_bytes(at(claim, "status", "capacity", "storage") or asked):
        await world.status(k.CLAIM, claim, {"capacity": {"storage": asked}})


async def _share(world: World, name: str, claim: Object, found: Object) -> Object | None:
    parameters = found.get("parameters") or {}
    folder = str(parameters.get("subDir") or name)
    namespace, claimed = key(claim)
    for word, value in (
        ("pvc.metadata.name", claimed),
        ("pvc.metadata.namespace", namespace),
        ("pv.metadata.name", name),
    ):
        folder = folder.replace("${" + word + "}", value)
    server, share = str(parameters.get("server", "")), str(parameters.get("share", ""))
    handle = f"{server}#{share.strip('/')}#{folder}##"
    return {"volumeHandle": handle, "volumeAttributes": {"server": server, "share": share, "subdir": folder}}


async def _nothing(*_: object) -> None:
    """The server of an NFS share is not played."""


_NFS = Driver("nfs.csi.k8s.io", "csi-nfs-controller", "csi-nfs-controller", _share, _nothing, _nothing)
_LONGHORN = Driver(
    "driver.longhorn.io", "csi-provisioner", "csi-resizer", longhorn.provision, longhorn.remove, longhorn.resize
)
