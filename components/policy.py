"""Who may talk to our own pods, where the settings ask for policies and the network keeps to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi

from components.part import Part
from components.workload import Port


@dataclass(frozen=True)
class Door:
    """A port that is open.

    Attributes:
        port: of the pods.
        of: the namespace whose pods may come in; None is everybody, in the house too.
    """

    port: Port
    of: str | None = None


def policy(part: Part, namespace: str, app: str, doors: Sequence[Door], needs: Sequence[pulumi.Resource]) -> None:
    """Let nobody into the pods `app` but through `doors`; nothing at all where the settings ask for no policies."""
    if part.site.lab.platform.network_policies:
        part.object(f"{app}-policy", manifest(namespace, app, doors), needs)


def manifest(namespace: str, app: str, doors: Sequence[Door]) -> dict[str, Any]:
    """The NetworkPolicy. A kubelet's probes come from the pod's own node, which every network lets in."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": app, "namespace": namespace},
        "spec": {
            "podSelector": {"matchLabels": {"app": app}},
            "policyTypes": ["Ingress"],
            "ingress": [_rule(door) for door in doors],
        },
    }


def _rule(door: Door) -> dict[str, Any]:
    ports = [{"port": door.port.container, "protocol": door.port.protocol}]
    if door.of is None:
        return {"ports": ports}
    return {"ports": ports, "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": door.of}}}]}
