"""Waiting until volumes can be made: Longhorn makes what that takes only after its own pods run."""

from __future__ import annotations

from collections.abc import Iterable

from providers.longhorn.scene import GROUP, Api, Node

STORAGE_CLASS = "/apis/storage.k8s.io/v1/storageclasses/longhorn"


def missing(api: Api, nodes: Iterable[str]) -> str:
    """What Longhorn still lacks, or nothing."""
    listed = api.look(f"{GROUP}/nodes")
    found = {node.name: node for node in map(Node.parse, (listed or {}).get("items", ()))}
    absent = [name for name in nodes if name not in found]
    if absent:
        return f"Longhorn has not found {', '.join(absent)} yet"
    away = [name for name in nodes if not found[name].ready]
    if away:
        return f"Longhorn's manager on {', '.join(away)} is not ready"
    if not any(disk.takes for node in found.values() for disk in node.disks):
        return "no disk takes replicas yet"
    if api.look(STORAGE_CLASS) is None:
        return "the StorageClass longhorn is not there yet"
    return ""
