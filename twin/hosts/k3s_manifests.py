"""The manifests in a server's folder, which k3s applies on start."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import yaml

from twin.kubernetes.api import Api, ApiError

if TYPE_CHECKING:
    from twin.hosts.host import Host

_FOLDER = "/var/lib/rancher/k3s/server/manifests"
_POLL_S = 0.2


def dropped(host: Host) -> list[tuple[str, dict[str, Any]]]:
    """Path and body of each object in them."""
    folder = host.path(_FOLDER)
    files = sorted(folder.glob("*.yaml")) if folder.is_dir() else []
    documents = [one for file in files for one in yaml.safe_load_all(file.read_text(encoding="utf-8")) if one]
    return [(_path(body), body) for body in documents]


def _path(body: dict[str, Any]) -> str:
    namespace = f"/namespaces/{body['metadata']['namespace']}" if "namespace" in body["metadata"] else ""
    group = "/api/v1" if body["apiVersion"] == "v1" else f"/apis/{body['apiVersion']}"
    return f"{group}{namespace}/{body['kind'].lower()}s"


def vip(body: dict[str, Any]) -> str | None:
    """The address that a kube-vip DaemonSet announces."""
    if body.get("kind") != "DaemonSet" or not body["metadata"]["name"].startswith("kube-vip"):
        return None
    variables = {item["name"]: item.get("value") for item in body["spec"]["template"]["spec"]["containers"][0]["env"]}
    return variables.get("address")


async def applied(api: Api, path: str, body: dict[str, Any]) -> None:
    """Have it in the cluster."""
    for _ in range(50):
        try:
            await api.create(path, body)
            return
        except ApiError:
            await asyncio.sleep(_POLL_S)
