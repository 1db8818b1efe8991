"""Cilium: the pods' network where `cluster.cni` asks for it. Nodes are not Ready before it runs."""

from __future__ import annotations

from typing import Any

from components.part import Part, Site, requests
from settings import Settings as Lab
from settings.parts import Cilium as Settings

CAPABILITIES = (
    "CHOWN",
    "KILL",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "SYS_ADMIN",
    "SYS_RESOURCE",
    "DAC_OVERRIDE",
    "FOWNER",
    "SETGID",
    "SETUID",
)


class Cilium(Part):
    """Cilium in kube-system. It must not wait for the nodes: they wait for it."""

    def __init__(self, site: Site, settings: Settings | None) -> None:
        super().__init__("cilium", site, settings)
        # Its pods need nodes, and the nodes' memberships wait for its pods: so nobody waits for its pods here.
        self.chart("cilium", "kube-system", values(site.lab), skip_await=True)
        self.register_outputs({})


def values(lab: Lab) -> dict[str, Any]:
    """What Talos needs: it lets nobody load modules, and mounts cgroups itself.

    Hubble is off: nobody in a lab looks at it, and its certificates would be made anew at every preview.
    """
    return {
        "ipam": {"mode": "kubernetes"},
        "kubeProxyReplacement": lab.cluster.cni.replaces_kube_proxy,
        "k8sServiceHost": "localhost",  # KubePrism, which knows all control planes
        "k8sServicePort": 7445,
        "cgroup": {"autoMount": {"enabled": False}, "hostRoot": "/sys/fs/cgroup"},
        "securityContext": {
            "capabilities": {
                "ciliumAgent": list(CAPABILITIES),
                "cleanCiliumState": ["NET_ADMIN", "SYS_ADMIN", "SYS_RESOURCE"],
            }
        },
        "operator": {"replicas": min(2, len(lab.enabled_nodes)), "resources": requests("25m", "128Mi")},
        "envoy": {"resources": requests("50m", "64Mi")},
        "hubble": {"enabled": False},
        "initResources": requests("10m", "16Mi"),
        "resources": requests("100m", "256Mi"),
    }
