"""A stack's state as the engine exports it: two nodes, a part with two objects, and a release of Helm's."""

from __future__ import annotations

import json
from typing import Any

from providers.deployment import SECRET, SIGNATURE
from providers.talos.secrets import SecretsBundle
from providers.talos.wire import pack

BUNDLE = pack(SecretsBundle.generate())
URN = "urn:pulumi:twin::homelab::"


def hidden(value: Any) -> dict[str, Any]:
    """A secret as `pulumi stack export --show-secrets` writes it."""
    return {SIGNATURE: SECRET, "plaintext": json.dumps(value)}


def component(kind: str, name: str) -> dict[str, Any]:
    return {"urn": f"{URN}homelab:{kind}::{name}", "type": f"homelab:{kind}", "parent": f"{URN}pulumi:pulumi:Stack::x"}


def dynamic(kind: str, name: str, settings: Any, parent: dict[str, Any], **more: Any) -> dict[str, Any]:
    inputs = {"__provider": "x", "settings": settings}
    return {
        "urn": f"{parent['urn']}${kind}::{name}", "custom": True, "type": f"pulumi-python:dynamic/{kind}",
        "id": name, "inputs": inputs, "parent": parent["urn"], **more,
    }  # fmt: skip


def kubernetes(id_: str, manifest: dict[str, Any], parent: dict[str, Any], **more: Any) -> dict[str, Any]:
    api = manifest["apiVersion"]
    kind = f"kubernetes:{api if '/' in api else f'core/{api}'}:{manifest['kind']}"
    return {
        "urn": f"{parent['urn']}${kind}::{id_}", "custom": True, "id": id_, "type": kind, "inputs": manifest,
        "outputs": {}, "parent": parent["urn"], **more,
    }  # fmt: skip


def node(name: str, number: int, role: str) -> list[dict[str, Any]]:
    own = component("Node", name)
    slot = {"node": name, "slot": float(number), "board": "https://127.107.2.60", "password": hidden("geheim")}
    machine = {"node": name, "address": f"127.107.2.{number}", "spec": {"role": role}, "secrets": hidden(BUNDLE)}
    return [
        own,
        dynamic("turingpi:Power", f"{name}-power", slot, own),
        dynamic("talos:Machine", f"{name}-machine", machine, own),
    ]


def deployment() -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "web"},
        "spec": {"replicas": 1},
    }  # fmt: skip


def secret() -> dict[str, Any]:
    metadata = {"name": "env", "namespace": "web"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": hidden({"TOKEN": "tk-hunter2"})}


def resources() -> list[dict[str, Any]]:
    """All of them, parents first."""
    web, traefik, longhorn = (
        component(k, n) for k, n in (("Application", "web"), ("Traefik", "traefik"), ("Longhorn", "longhorn"))
    )
    release = {
        "urn": f"{longhorn['urn']}$kubernetes:helm.sh/v3:Release::longhorn-release", "custom": True,
        "id": "longhorn-system/longhorn", "type": "kubernetes:helm.sh/v3:Release", "parent": longhorn["urn"],
        "inputs": {"version": "1.12.1", "kind": "not an object"}, "outputs": {"status": {"revision": 2}},
    }  # fmt: skip
    chart = {
        "urn": f"{traefik['urn']}$kubernetes:helm.sh/v4:Chart::traefik-chart", "custom": False,
        "type": "kubernetes:helm.sh/v4:Chart", "parent": traefik["urn"],
    }  # fmt: skip
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "traefik", "namespace": "traefik"}}
    kinds = dynamic(
        "kubernetes:Definitions", "traefik-kinds", {"chart": "traefik"}, traefik, outputs={"names": ["a.b.c"]}
    )
    return [
        {"urn": f"{URN}pulumi:pulumi:Stack::x", "type": "pulumi:pulumi:Stack"},
        *node("node1", 1, "controlplane"),
        *node("node2", 2, "worker"),
        web, kubernetes("web/web", deployment(), web), kubernetes("web/env", secret(), web),
        kubernetes("web/old", {**deployment(), "metadata": {"name": "old"}}, web, delete=True),
        traefik, chart, kubernetes("traefik/traefik", account, chart), kinds,
        longhorn, release,
    ]  # fmt: skip
