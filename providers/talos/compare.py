"""Machine configs compared by what they say, not by how it is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from providers.talos import documents
from providers.talos.documents import Document


def same(left: str, right: str) -> bool:
    """Whether two machine configs say the same, whatever their order, quoting, and empty or absent parts."""
    return _normal(left) == _normal(right)


def fingerprint(text: str) -> str:
    """A SHA-256 (hex) over what the config says; equal whenever `same` holds. Gives away nothing of its secrets."""
    canonical = json.dumps(_normal(text), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def summary(text: str) -> dict[str, Any]:
    """The facts of a config that a person looks for in a diff; no secrets, short enough for the stack's state."""
    found = documents.load(text)
    main = documents.main(found)
    machine, cluster = main.get("machine") or {}, main.get("cluster") or {}
    facts = {
        "hostname": _hostname(found, machine),
        "role": machine.get("type"),
        "endpoint": _at(cluster, "controlPlane", "endpoint"),
        "installer": _at(machine, "install", "image"),
        "disk": _at(machine, "install", "disk") or _at(machine, "install", "diskSelector"),
        "kubelet": _at(machine, "kubelet", "image"),
        "apiServer": _at(cluster, "apiServer", "image"),
        "cni": _at(cluster, "network", "cni", "name"),
        "podSubnets": _at(cluster, "network", "podSubnets"),
        "serviceSubnets": _at(cluster, "network", "serviceSubnets"),
        "interfaces": [_interface(item) for item in _at(machine, "network", "interfaces") or ()],
        "nameservers": _at(machine, "network", "nameservers"),
        "timeServers": _at(machine, "time", "servers"),
        "labels": machine.get("nodeLabels"),
        "taints": machine.get("nodeTaints"),
        "mirrors": _mirrors(machine),
        "logins": sorted(_at(machine, "registries", "config") or ()),
        "scheduleOnControlPlanes": cluster.get("allowSchedulingOnControlPlanes"),
        "documents": sorted(_name(item) for item in found if not documents.is_main(item)),
    }
    return {key: value for key, value in facts.items() if not _empty(value)}


def identity(document: Mapping[str, Any]) -> tuple[str, str]:
    """What tells a document from the others of a config: its kind and name."""
    return str(document.get("kind", "")), str(document.get("name", ""))


def pruned(value: Any) -> Any:
    """The value without empty maps, lists and nulls. Empty texts and `false` stay: they mean something."""
    if isinstance(value, Mapping):
        parts = {key: pruned(item) for key, item in value.items()}
        return {key: item for key, item in parts.items() if not _empty(item)}
    if isinstance(value, list):
        return [pruned(item) for item in value]
    return value


def _normal(text: str) -> list[Document]:
    return sorted((pruned(document) for document in documents.load(text)), key=identity)


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, (dict, list)) and not value)


def _at(value: Any, *path: str) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _hostname(found: list[Document], machine: Mapping[str, Any]) -> Any:
    document = next((item for item in found if item.get("kind") == "HostnameConfig"), {})
    return document.get("hostname") or _at(machine, "network", "hostname")


def _mirrors(machine: Mapping[str, Any]) -> dict[str, Any]:
    return {host: _at(item, "endpoints") for host, item in (_at(machine, "registries", "mirrors") or {}).items()}


def _interface(item: Mapping[str, Any]) -> str:
    selector = item.get("interface") or " ".join(f"{key}={value}" for key, value in _at(item, "deviceSelector").items())
    parts = [str(selector), "dhcp" if item.get("dhcp") else "", *(item.get("addresses") or ())]
    vip = _at(item, "vip", "ip")
    return " ".join(part for part in [*parts, f"vip {vip}" if vip else ""] if part)


def _name(document: Mapping[str, Any]) -> str:
    return "/".join(part for part in identity(document) if part)
