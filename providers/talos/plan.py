"""What a change of a machine config does to the running node. Pure: nothing is asked.

Protocol source: `CanApplyImmediate` in Talos 1.12
(https://github.com/siderolabs/talos/blob/v1.12.0/internal/app/machined/pkg/runtime/v1alpha1/v1alpha1_runtime.go):
these parts of the v1alpha1 document are taken while the node runs, all others with a reboot; other documents live.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from providers.talos import documents
from providers.talos.compare import identity, pruned
from providers.talos.documents import Document

_LIVE_MACHINE = frozenset(
    {
        *("ca", "acceptedCAs", "certSANs", "controlPlane", "install", "kernel", "kubelet", "logging", "network"),
        *("nodeAnnotations", "nodeLabels", "nodeTaints", "pods", "registries", "seccompProfiles", "sysctls", "sysfs"),
        "time",
    }
)
_LIVE_FEATURES = frozenset(
    {"kubernetesTalosAPIAccess", "kubePrism", "hostDNS", "imageCache", "nodeAddressSortAlgorithm"}
)
# Taken live, but only seen when something else happens. Path -> when.
_LATER = {
    "machine.install": "used by the next upgrade or installation",
    "machine.registries.config": "containerd reads it at the next boot",
    "cluster.etcd.extraArgs": "etcd reads it at the next boot",
}


@dataclass(frozen=True)
class Changes:
    """The difference of two configs, as paths (`machine.kubelet.image`); values are left out, they may be secrets.

    Attributes:
        live: taken while the node runs.
        reboot: taken only with a reboot.
        later: taken live but effective later, each with when.
    """

    live: tuple[str, ...]
    reboot: tuple[str, ...]
    later: tuple[str, ...]

    @property
    def nothing(self) -> bool:
        """Whether the configs say the same."""
        return not self.live and not self.reboot


def compare(old: str, new: str) -> Changes:
    """What the change from one machine config to another needs.

    Raises:
        UserError: one of them is not a machine config.
    """
    before, after = _by_identity(old), _by_identity(new)
    changed = [path for key in sorted(before | after) for path in _paths(key, before.get(key), after.get(key))]
    live = tuple(path for path in changed if _is_live(path))
    notes = (f"{path}: {when}" for path in live for prefix, when in _LATER.items() if _under(path, prefix))
    return Changes(live, tuple(path for path in changed if not _is_live(path)), tuple(notes))


def _by_identity(text: str) -> dict[tuple[str, str], Document]:
    found = documents.load(text)
    documents.main(found)
    return {identity(document): pruned(document) for document in found}


def _paths(key: tuple[str, str], before: Document | None, after: Document | None) -> Iterator[str]:
    if key == ("", ""):
        yield from _different("", before or {}, after or {})
    elif before != after:
        yield "/".join(part for part in key if part)


def _different(path: str, before: Any, after: Any) -> Iterator[str]:
    if before == after:
        return
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        yield path
        return
    for key in sorted({*before, *after}):
        yield from _different(f"{path}.{key}" if path else str(key), before.get(key), after.get(key))


def _is_live(path: str) -> bool:
    parts = path.split(".")
    if parts[0] != "machine":
        # Documents of other kinds and the cluster's part; `version` and `persist` never change.
        return parts[0] not in ("version", "persist")
    if len(parts) == 1:
        return False
    if parts[1] == "features":
        return len(parts) > 2 and parts[2] in _LIVE_FEATURES
    return parts[1] in _LIVE_MACHINE


def _under(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}.")
