"""What `pulumi stack output` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pulumi

from providers.talos.resources import Cluster
from settings import Settings

if TYPE_CHECKING:  # what it imports takes longer than a cluster without a platform
    from components.part import Part


def export(lab: Settings, cluster: Cluster) -> None:
    """The credentials as secrets; where things are, and what to do next, in plain."""
    pulumi.export("kubeconfig", cluster.kubeconfig)
    pulumi.export("talosconfig", cluster.talosconfig)
    pulumi.export(
        "endpoints",
        {"api": lab.cluster.endpoint.url, "talos": [str(address) for address in lab.control_plane_addresses]},
    )
    pulumi.export(
        "nodes",
        {
            node.name: {
                "role": node.role.value,
                "address": str(node.address),
                "board": node.board,
                "slot": node.slot,
            }
            for node in lab.enabled_nodes
        },
    )
    pulumi.export(
        "next_steps",
        [
            "export KUBECONFIG=.homelab/kubeconfig; kubectl get nodes",
            "talosctl --talosconfig .homelab/talosconfig dashboard",
            "homelab status",
        ],
    )


def export_platform(lab: Settings, parts: Sequence[Part]) -> None:
    """Where the pages are in plain, and what opens them as one secret."""
    logins = {name: secret for part in parts for name, secret in part.logins.items()}
    pulumi.export("urls", {host: f"https://{host}/" for host in lab.platform.hosts})
    pulumi.export("logins", pulumi.Output.secret(logins))
    if lab.tenants:
        export_tenants(parts)


def export_tenants(parts: Sequence[Part]) -> None:
    """Where tenants' APIs are in plain; their administrators' kubeconfigs, and what machines join with, as secrets."""
    from components.tenants import Tenant  # noqa: PLC0415  # where there are none, it is not imported

    found = {part.name: part for part in parts if isinstance(part, Tenant)}
    pulumi.export(
        "tenants",
        {name: {"api": part.api, "kubeconfig": part.admin, "join": part.join} for name, part in found.items()},
    )


def export_clusters(kubeconfigs: Mapping[str, pulumi.Output[str]]) -> None:
    """What opens the clusters beside that of Talos, by name, as one secret."""
    pulumi.export("kubeconfigs", pulumi.Output.secret(dict(kubeconfigs)))
