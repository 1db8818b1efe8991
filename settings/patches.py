"""What a Talos config patch must not say, because the settings already do."""

from collections.abc import Iterator, Mapping
from typing import Any

from .draft import Draft
from .problems import Problem, Where, closest

_V1ALPHA1 = ("version", "debug", "persist", "machine", "cluster", "$patch")

OWNED: dict[tuple[str, ...], str] = {
    ("machine", "type"): "use nodes.NAME.role",
    ("machine", "token"): "remove it: it is made with the cluster",
    ("machine", "ca"): "remove it: it is made with the cluster",
    ("machine", "install", "disk"): "use nodes.NAME.install.disk",
    ("machine", "install", "diskSelector"): "use nodes.NAME.install.selector",
    ("machine", "install", "image"): "use cluster.talos",
    ("machine", "install", "wipe"): "use nodes.NAME.generation",
    ("machine", "network", "hostname"): "rename the node",
    ("cluster", "id"): "remove it: it is made with the cluster",
    ("cluster", "secret"): "remove it: it is made with the cluster",
    ("cluster", "token"): "remove it: it is made with the cluster",
    ("cluster", "ca"): "remove it: it is made with the cluster",
    ("cluster", "aggregatorCA"): "remove it: it is made with the cluster",
    ("cluster", "serviceAccount"): "remove it: it is made with the cluster",
    ("cluster", "secretboxEncryptionSecret"): "remove it: it is made with the cluster",
    ("cluster", "clusterName"): "use cluster.name",
    ("cluster", "controlPlane", "endpoint"): "use cluster.endpoint",
    ("cluster", "network", "cni"): "use cluster.cni",
    ("cluster", "network", "podSubnets"): "use cluster.pod_subnets",
    ("cluster", "network", "serviceSubnets"): "use cluster.service_subnets",
    ("cluster", "allowSchedulingOnControlPlanes"): "use cluster.schedule_on_control_planes",
}
"""Places of a machine config that follow from the settings, and which setting to use."""

OWNED_KINDS = {"HostnameConfig": "rename the node", "Layer2VIPConfig": "use cluster.endpoint.vip"}
"""Documents of a machine config that follow from the settings."""


def patches(draft: Draft) -> Iterator[Problem]:
    """Patches are partial machine configs that leave alone what the settings decide."""
    for where, patch in draft.patches.items():
        yield from _document(where, patch) if "kind" in patch else _v1alpha1(where, patch)


def _document(where: Where, patch: Mapping[str, Any]) -> Iterator[Problem]:
    if patch.get("apiVersion") != "v1alpha1":
        yield Problem((*where, "apiVersion"), "is not v1alpha1", "write `apiVersion: v1alpha1` beside kind")
    kind = patch["kind"]
    if isinstance(kind, str) and kind in OWNED_KINDS:
        yield Problem((*where, "kind"), f"{kind} follows from the settings", OWNED_KINDS[kind])


def _v1alpha1(where: Where, patch: Mapping[str, Any]) -> Iterator[Problem]:
    for key in patch:
        if key not in _V1ALPHA1:
            meant = closest(key, _V1ALPHA1)
            fix = f"did you mean {meant}?" if meant else "a patch has machine, cluster, or kind and apiVersion"
            yield Problem((*where, key), "is not part of a machine config", fix)
    for path, fix in OWNED.items():
        if _has(patch, path):
            yield Problem((*where, *path), "follows from the settings", fix)


def _has(patch: Any, path: tuple[str, ...]) -> bool:
    for part in path:
        if not isinstance(patch, Mapping) or part not in patch:
            return False
        patch = patch[part]
    return True
