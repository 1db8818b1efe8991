"""What Longhorn deploys by itself: its CSI driver's workloads, the engine's image, and what its webhook refuses."""

from __future__ import annotations

from typing import Any

from twin.kubernetes.api import Object
from twin.kubernetes.players import kinds as k
from twin.kubernetes.players.world import Kind, World, at

_DRIVER = "driver.longhorn.io"
_CONTROLLERS = ("attacher", "provisioner", "resizer", "snapshotter")
_DAEMONS = ("longhorn-csi-plugin", "engine-image-ei-stand-in")
_POLICY = "longhorn-webhook-validator"
_RULE = {"apiGroups": ["longhorn.io"], "apiVersions": ["*"], "resources": ["nodes"]}
# A policy is judged by the API server itself: no webhook answers here. Its words are the webhook's.
_EVICTION = "oldObject == null || object == null || !object.spec.evictionRequested || !object.spec.allowScheduling"
_DELETION = (
    "object != null || (!oldObject.spec.allowScheduling"
    " && oldObject.status.conditions.exists(c, c.type == 'Ready' && c.reason == 'KubernetesNodeGone')"
    " && oldObject.status.diskStatus.all(d, size(oldObject.status.diskStatus[d].scheduledReplica) == 0))"
)


async def play(world: World, manager: Object) -> None:
    """Make what is missing once the manager and its deployer run."""
    await _refusals(world)
    deployer = k.deployment(world, "longhorn-driver-deployer")
    if deployer is None:
        return
    if world.get(k.CSI_DRIVER, _DRIVER) is None:
        spec = {"attachRequired": True, "podInfoOnMount": True, "fsGroupPolicy": "ReadWriteOnceWithFSType"}
        await world.create(k.CSI_DRIVER, {"metadata": {"name": _DRIVER}, "spec": spec})
    for name in _CONTROLLERS:
        await _make(world, k.DEPLOYMENT, f"csi-{name}", manager, {"replicas": _replicas(deployer, name)})
    for name in _DAEMONS:
        await _make(world, k.DAEMON_SET, name, manager, {})


async def remove(world: World, namespace: str) -> None:
    """The uninstaller takes away what was made here, and those who would make it again."""
    for kind, names in (
        (k.DEPLOYMENT, [*(f"csi-{name}" for name in _CONTROLLERS), "longhorn-driver-deployer"]),
        (k.DAEMON_SET, ["longhorn-manager", *_DAEMONS]),
    ):
        for name in names:
            await _drop(world, kind, name, namespace)
    for name in ("longhorn", "longhorn-static"):
        await _drop(world, k.STORAGE_CLASS, name)
    await _drop(world, k.CSI_DRIVER, _DRIVER)
    await _drop(world, k.POLICY_BINDING, _POLICY)
    await _drop(world, k.POLICY, _POLICY)


async def _drop(world: World, kind: Kind, name: str, namespace: str = "") -> None:
    found = world.get(kind, name, namespace)
    if found is not None:
        await world.delete(kind, found)


async def _make(world: World, kind: Kind, name: str, manager: Object, more: Object) -> None:
    namespace = manager["metadata"]["namespace"]
    found = world.get(kind, name, namespace)
    if found is not None:
        if "replicas" in more and found["spec"].get("replicas") != more["replicas"]:
            await world.patch(kind, found, {"spec": more})
        return
    template = manager["spec"]["template"]["spec"]
    container = {"name": name, "image": template["containers"][0]["image"]}
    pod = {"containers": [container], **{f: template[f] for f in ("tolerations", "nodeSelector") if f in template}}
    labels = {"app": name, "longhorn.io/managed-by": "longhorn-manager"}
    spec = {"selector": {"matchLabels": {"app": name}}, "template": {"metadata": {"labels": labels}, "spec": pod}}
    about = {"name": name, "namespace": namespace, "labels": labels}
    await world.create(kind, {"metadata": about, "spec": {**spec, **more}})


def _replicas(deployer: Object, name: str) -> int:
    containers: list[Any] = at(deployer, "spec", "template", "spec", "containers") or []
    env = {entry["name"]: entry.get("value") for container in containers for entry in container.get("env") or []}
    return int(env.get(f"CSI_{name.upper()}_REPLICA_COUNT") or 3)


async def _refusals(world: World) -> None:
    if world.get(k.POLICY, _POLICY) is None:
        rules = [{**_RULE, "operations": ["UPDATE", "DELETE"]}]
        checks = [
            {"expression": _EVICTION, "message": "need to disable scheduling on the node for node eviction"},
            {"expression": _DELETION, "message": "could not delete the node: it is still in use or not gone"},
        ]
        spec = {"failurePolicy": "Ignore", "matchConstraints": {"resourceRules": rules}, "validations": checks}
        await world.create(k.POLICY, {"metadata": {"name": _POLICY}, "spec": spec})
    if world.get(k.POLICY_BINDING, _POLICY) is None:
        spec = {"policyName": _POLICY, "validationActions": ["Deny"]}
        await world.create(k.POLICY_BINDING, {"metadata": {"name": _POLICY}, "spec": spec})
