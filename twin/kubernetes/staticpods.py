"""The control plane's pods as the API shows them: mirror pods that follow the machine config (facts daytwo 3.3)."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import TYPE_CHECKING

from twin.kubernetes.api import Api, ApiError, Object

if TYPE_CHECKING:
    from twin.talos.config import Config

SERVERS = {
    "kube-apiserver": "apiServer",
    "kube-controller-manager": "controllerManager",
    "kube-scheduler": "scheduler",
}
"""Pod -> its section of the config's `cluster`."""
_POLL_S = 0.25
_PODS = "/api/v1/namespaces/kube-system/pods"
_VERSION = "talos.dev/config-version"


def image(config: Config, name: str) -> str:
    """The image that a server runs from by its config; the twin's servers themselves are of one version."""
    return str(config.at("cluster", SERVERS[name], "image", default=f"registry.k8s.io/{name}:v1.36.1"))


def version(config: Config, name: str) -> str:
    """What changes whenever a server's section does."""
    section = json.dumps(config.at("cluster", SERVERS[name], default={}), sort_keys=True, default=str)
    return str(int(hashlib.sha256(section.encode()).hexdigest()[:6], 16))


async def publish(api: Api, config: Config, node: str, boot: str) -> None:
    """Have the three pods of a node be in the API as its config has them, each boot's anew; waits for its Node."""
    uid = await _node_uid(api, node)
    for name in SERVERS:
        body = pod(config, name, node, uid, boot)
        while not await _is_there(api, body):
            await asyncio.sleep(_POLL_S)


async def _node_uid(api: Api, node: str) -> str:
    while True:
        try:
            return str((await api.get(f"/api/v1/nodes/{node}"))["metadata"]["uid"])
        except ApiError:
            await asyncio.sleep(_POLL_S)


async def _is_there(api: Api, body: Object) -> bool:
    """Whether the pod is as it should be; one that isn't is deleted, and made when it is gone."""
    path = f"{_PODS}/{body['metadata']['name']}"
    try:
        found = await api.get(path)
    except ApiError as error:
        if error.status == 404:
            await _made(api, body)
        return False
    if found["metadata"].get("annotations") == body["metadata"]["annotations"]:
        return True
    try:
        await api.delete(f"{path}?gracePeriodSeconds=0")
    except ApiError:
        return False
    return False


async def _made(api: Api, body: Object) -> None:
    try:
        await api.create(_PODS, body)
    except ApiError:
        return  # asked again


def pod(config: Config, name: str, node: str, uid: str, boot: str) -> Object:
    """A server's mirror pod."""
    about = {_VERSION: version(config, name), "kubernetes.io/config.source": "file", "twin/boot": boot}
    annotations = {**about, "kubernetes.io/config.mirror": about[_VERSION]}
    owner = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid, "controller": True}
    labels = {"k8s-app": name, "component": name, "tier": "control-plane"}
    spec = {
        "nodeName": node,
        "hostNetwork": True,
        "priorityClassName": "system-cluster-critical",
        "automountServiceAccountToken": False,
        "tolerations": [{"operator": "Exists", "effect": "NoExecute"}],
        "containers": [{"name": name, "image": image(config, name)}],
    }
    metadata = {
        "name": f"{name}-{node}", "namespace": "kube-system", "labels": labels, "annotations": annotations,
        "ownerReferences": [owner],
    }  # fmt: skip
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
