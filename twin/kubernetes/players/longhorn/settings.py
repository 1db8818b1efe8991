"""Longhorn's settings and StorageClasses, made from the ConfigMaps of its chart when those change."""

from __future__ import annotations

from typing import Any

import yaml

from twin.kubernetes.api import Object
from twin.kubernetes.players import kinds as k
from twin.kubernetes.players.world import World, at

_APPLIED = "longhorn.io/configmap-resource-version"
_LAST = "longhorn.io/last-applied-configmap"
_DEFAULTS = {
    "default-data-path": "/var/lib/longhorn/",
    "default-replica-count": '{"v1":"3","v2":"3"}',
    "create-default-disk-labeled-nodes": "false",
    "storage-over-provisioning-percentage": "100",
    "storage-minimal-available-percentage": "25",
    "storage-reserved-percentage-for-default-disk": "30",
    "replica-soft-anti-affinity": "false",
    "replica-replenishment-wait-interval": "600",
    "node-down-pod-deletion-policy": "do-nothing",
    "node-drain-policy": "block-if-contains-last-replica",
    "deleting-confirmation-flag": "false",
}


def setting(world: World, name: str) -> str:
    """The value of a setting, empty if it was never made."""
    for found in world.all(k.LONGHORN_SETTING):
        if found["metadata"]["name"] == name:
            return str(found.get("value", ""))
    return ""


async def play(world: World, namespace: str) -> None:
    """What the ConfigMaps say is written when they are new or changed; what somebody edits later stays."""
    await _settings(world, namespace)
    await _backup_target(world, namespace)
    source = world.get(k.CONFIG_MAP, "longhorn-storageclass", namespace)
    if source is not None:
        await _storage_class(world, source["data"]["storageclass.yaml"])
    static = {"provisioner": "driver.longhorn.io", "allowVolumeExpansion": True, "reclaimPolicy": "Delete"}
    if world.get(k.STORAGE_CLASS, "longhorn-static") is None:
        await world.create(k.STORAGE_CLASS, {"metadata": {"name": "longhorn-static"}, **static})


async def _settings(world: World, namespace: str) -> None:
    source = world.get(k.CONFIG_MAP, "longhorn-default-setting", namespace)
    version = str(at(source, "metadata", "resourceVersion") or "")
    given = _parsed(source, "default-setting.yaml")
    for name in {**_DEFAULTS, **given}:
        found = world.get(k.LONGHORN_SETTING, name, namespace)
        about = {"annotations": {_APPLIED: version}}
        if found is None:
            value = given.get(name, _DEFAULTS.get(name, ""))
            body = {"metadata": {"name": name, "namespace": namespace, **about}, "value": value}
            await world.create(k.LONGHORN_SETTING, body)
        elif name in given and (at(found, "metadata", "annotations") or {}).get(_APPLIED) != version:
            await world.patch(k.LONGHORN_SETTING, found, {"metadata": about, "value": given[name]})


async def _backup_target(world: World, namespace: str) -> None:
    given = _parsed(world.get(k.CONFIG_MAP, "longhorn-default-resource", namespace), "default-resource.yaml")
    if world.get(k.BACKUP_TARGET, "default", namespace) is None:
        spec = {
            "backupTargetURL": given.get("backup-target", ""),
            "credentialSecret": given.get("backup-target-credential-secret", ""),
            "pollInterval": f"{given.get('backupstore-poll-interval', '300').removesuffix('s')}s",
        }
        await world.create(k.BACKUP_TARGET, {"metadata": {"name": "default", "namespace": namespace}, "spec": spec})
    for target in world.all(k.BACKUP_TARGET):
        available = bool(target["spec"].get("backupTargetURL"))
        if at(target, "status", "available") != available:
            await world.status(k.BACKUP_TARGET, target, {"available": available})


async def _storage_class(world: World, text: str) -> None:
    wanted: Object = yaml.safe_load(text)
    meta = wanted["metadata"]
    found = world.get(k.STORAGE_CLASS, meta["name"])
    if found is not None and (at(found, "metadata", "annotations") or {}).get(_LAST) == text:
        return
    if found is not None:
        await world.delete(k.STORAGE_CLASS, found)  # its parameters can't be changed
    meta["annotations"] = {**(meta.get("annotations") or {}), _LAST: text}
    await world.create(k.STORAGE_CLASS, wanted)


def _parsed(source: Object | None, name: str) -> dict[str, str]:
    given = yaml.safe_load(at(source, "data", name) or "") or {}
    return {str(field): _text(value) for field, value in given.items()}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
