"""Programs with a webhook write the authority of its certificate into its configuration, once they run.

MetalLB and Longhorn do it for their own; for cert-manager, and for whoever asks by annotation, its cainjector does.
No webhook answers a call (players/door.py refuses it): the stand-in charts' configurations match no request.
"""

from __future__ import annotations

import base64
from datetime import timedelta

from twin.kubernetes.api import Object
from twin.kubernetes.players import kinds as k
from twin.kubernetes.players.pki import Wish, b64, issue
from twin.kubernetes.players.world import Kind, World, at, key, labelled

_OWN_SECRET = {  # the Secret in which a program keeps what it has made for the Service of its webhook
    "metallb-webhook-service": "metallb-webhook-cert",
    "longhorn-admission-webhook": "longhorn-webhook-ca",
    "cert-manager-webhook": "cert-manager-webhook-ca",
}
_FROM_CERTIFICATE = "cert-manager.io/inject-ca-from"
_FROM_SECRET = "cert-manager.io/inject-ca-from-secret"  # noqa: S105 - an annotation's name
_AGE = timedelta(days=3650)


async def play(world: World) -> None:
    """Fill what is empty or old."""
    for kind in (k.VALIDATING, k.MUTATING):
        for configuration in world.all(kind):
            await _fill(world, kind, configuration)


async def _fill(world: World, kind: Kind, configuration: Object) -> None:
    wanted = []
    for hook in configuration.get("webhooks") or []:
        bundle = await _bundle(world, configuration, hook)
        config = hook["clientConfig"]
        wanted.append({**hook, "clientConfig": {**config, "caBundle": bundle}} if bundle else hook)
    if wanted != configuration.get("webhooks", []):
        await world.patch(kind, configuration, {"webhooks": wanted})


async def _bundle(world: World, configuration: Object, hook: Object) -> str:
    service = at(hook, "clientConfig", "service")
    annotations = at(configuration, "metadata", "annotations") or {}
    asked = annotations.get(_FROM_SECRET) or annotations.get(_FROM_CERTIFICATE)
    own = _OWN_SECRET.get(service["name"]) if service else None
    if own and _served(world, service["namespace"], service["name"]):
        await _authority(world, service, own)
    if asked:
        return _injected(world, annotations)
    if own and service["name"] != "cert-manager-webhook":
        return _secret(world, service["namespace"], own)
    return ""


def _injected(world: World, annotations: Object) -> str:
    if k.deployment(world, "cert-manager-cainjector") is None:
        return ""
    namespace, _, name = str(annotations.get(_FROM_SECRET) or "").partition("/")
    if not name:
        namespace, _, certificate = str(annotations[_FROM_CERTIFICATE]).partition("/")
        name = at(world.get(k.CERTIFICATE, certificate, namespace), "spec", "secretName") or ""
    return _secret(world, namespace, name)


def _secret(world: World, namespace: str, name: str) -> str:
    return str(at(world.get(k.SECRET, name, namespace), "data", "ca.crt") or "")


async def _authority(world: World, service: Object, secret: str) -> None:
    """The program's own Secret: an empty one that came with the chart is filled, else it is made."""
    namespace, name = service["namespace"], service["name"]
    found = world.get(k.SECRET, secret, namespace)
    if at(found, "data", "ca.crt"):
        return
    ca = issue(Wish(f"{name}-ca", authority=True, valid=_AGE, algorithm="ECDSA"))
    hosts = (name, f"{name}.{namespace}", f"{name}.{namespace}.svc")
    leaf = issue(Wish(name, hosts, valid=_AGE, algorithm="ECDSA", usages=("server auth",)), ca)
    data = {"ca.crt": b64(ca.crt), "ca.key": b64(ca.key), "tls.crt": b64(leaf.crt), "tls.key": b64(leaf.key)}
    if found is None:
        await world.create(k.SECRET, {"metadata": {"name": secret, "namespace": namespace}, "data": data})
    else:
        await world.patch(k.SECRET, found, {"data": data})


def _served(world: World, namespace: str, name: str) -> bool:
    """Whether a workload behind the Service has a pod that is ready."""
    selector = at(world.get(k.SERVICE, name, namespace), "spec", "selector")
    workloads = [*world.all(k.DEPLOYMENT), *world.all(k.DAEMON_SET)]
    return bool(selector) and any(
        key(found)[0] == namespace and k.alive(found) and labelled({"metadata": _pod(found)}, selector)
        for found in workloads
    )


def _pod(workload: Object) -> Object:
    return dict(at(workload, "spec", "template", "metadata") or {})


def decoded(secret: Object | None, name: str) -> bytes:
    """A value of a Secret, empty if there is none."""
    return base64.b64decode(at(secret, "data", name) or "")
