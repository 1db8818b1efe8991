"""The Prometheus operator: a Prometheus and an Alertmanager become StatefulSets and Services (facts 5)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from twin.kubernetes.api import Object
from twin.kubernetes.players import kinds as k
from twin.kubernetes.players.world import Kind, World, at, key

_HASH = "prometheus-operator-input-hash"


@dataclass(frozen=True)
class Server:
    """What the operator makes servers of."""

    kind: Kind
    name: str
    port: int
    image: str
    storage: str  # the field of the claim's template


_SERVERS = (
    Server(k.PROMETHEUS, "prometheus", 9090, "quay.io/prometheus/prometheus", "storage"),
    Server(k.ALERTMANAGER, "alertmanager", 9093, "quay.io/prometheus/alertmanager", "storage"),
)


async def play(world: World) -> None:
    """Make what is missing or has changed."""
    if not any(_operates(found) for found in world.all(k.DEPLOYMENT)):
        return
    for server in _SERVERS:
        for found in world.all(server.kind):
            if not at(found, "metadata", "deletionTimestamp"):
                await _serve(world, server, found)
                await _run(world, server, found)
                await _show(world, server, found)


def _operates(deployment: Object) -> bool:
    containers = at(deployment, "spec", "template", "spec", "containers") or []
    return k.alive(deployment) and any("/prometheus-operator:" in str(c.get("image")) for c in containers)


async def _run(world: World, server: Server, found: Object) -> None:
    spec = _spec(server, found)
    mark = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:20]
    namespace, name = key(found)
    made = world.get(k.STATEFUL_SET, f"{server.name}-{name}", namespace)
    if made is None:
        about = _about(server, found, f"{server.name}-{name}", {_HASH: mark})
        await world.create(k.STATEFUL_SET, {"metadata": about, "spec": spec})
    elif (at(made, "metadata", "annotations") or {}).get(_HASH) != mark:
        changed = {field: spec[field] for field in ("replicas", "template")}
        await world.patch(k.STATEFUL_SET, made, {"metadata": {"annotations": {_HASH: mark}}, "spec": changed})


async def _serve(world: World, server: Server, found: Object) -> None:
    name, namespace = f"{server.name}-operated", key(found)[0]
    if world.get(k.SERVICE, name, namespace) is None:
        ports = [{"name": "web", "port": server.port, "targetPort": "web"}]
        spec = {"clusterIP": "None", "selector": {"app.kubernetes.io/name": server.name}, "ports": ports}
        await world.create(k.SERVICE, {"metadata": _about(server, found, name, {}), "spec": spec})


async def _show(world: World, server: Server, found: Object) -> None:
    namespace, name = key(found)
    made = world.get(k.STATEFUL_SET, f"{server.name}-{name}", namespace)
    wanted, ready = _replicas(found), at(made, "status", "readyReplicas") or 0
    whole = "True" if ready >= wanted else "False"
    conditions = [{"type": kind, "status": status} for kind, status in (("Available", whole), ("Reconciled", "True"))]
    status = {"availableReplicas": ready, "replicas": wanted, "updatedReplicas": ready, "paused": False}
    before = found.get("status") or {}
    told = [{field: c.get(field) for field in ("type", "status")} for c in before.get("conditions") or []]
    if told != conditions or any(before.get(field) != value for field, value in status.items()):
        since = {"lastTransitionTime": found["metadata"]["creationTimestamp"]}
        await world.status(server.kind, found, {**status, "conditions": [{**c, **since} for c in conditions]})


def _spec(server: Server, found: Object) -> Object:
    name, spec = found["metadata"]["name"], found["spec"]
    labels = {"app.kubernetes.io/name": server.name, server.name: name, "app.kubernetes.io/instance": name}
    pod = {
        "containers": [_container(server, spec)],
        **{field: spec[field] for field in ("serviceAccountName", "securityContext", "tolerations") if spec.get(field)},
    }
    template = at(spec, server.storage, "volumeClaimTemplate")
    claims = [{"metadata": {"name": f"{server.name}-{name}-db"}, "spec": template["spec"]}] if template else []
    return {
        "replicas": _replicas(found),
        "serviceName": f"{server.name}-operated",
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
        "volumeClaimTemplates": claims,
    }


def _container(server: Server, spec: Object) -> Object:
    image = spec.get("image") or f"{server.image}:{spec.get('version') or 'latest'}"
    port = {"name": "web", "containerPort": server.port}
    probe = {"httpGet": {"path": "/-/ready", "port": "web"}}
    asked = spec.get("resources") or {}
    return {"name": server.name, "image": image, "ports": [port], "readinessProbe": probe, "resources": asked}


def _replicas(found: Object) -> int:
    wanted = found["spec"].get("replicas")
    return 1 if wanted is None else int(wanted)


def _about(server: Server, found: Object, name: str, annotations: dict[str, str]) -> Object:
    meta = found["metadata"]
    owner = {"apiVersion": server.kind.version, "kind": server.kind.name, "name": meta["name"], "uid": meta["uid"]}
    return {
        "name": name,
        "namespace": meta["namespace"],
        "labels": {"managed-by": "prometheus-operator"},
        "annotations": annotations,
        "ownerReferences": [{**owner, "controller": True}],
    }
