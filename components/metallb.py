"""MetalLB: gives services addresses of the house's LAN, and answers ARP for them from one node each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from components.part import Part, Site, requests
from components.versions import CHARTS
from providers.kubernetes.ready import Webhook
from settings.parts import MetalLB as Settings

NAMESPACE = "metallb-system"
API = "metallb.io/v1beta1"
ADDRESS = "metallb.io/loadBalancerIPs"
TRIAL_ADDRESS = "198.51.100.1/32"  # of a network that is for examples only, RFC 5737


class MetalLB(Part):
    """MetalLB with the lab's pools, all of them announced on the LAN."""

    def __init__(self, site: Site, settings: Settings) -> None:
        super().__init__("metallb", site, settings)
        namespace = self.namespace(NAMESPACE, privileged=True)
        chart = self.chart("metallb", NAMESPACE, values(), [namespace])
        webhook = self.keep(Webhook("metallb-webhook", self._webhook(settings), self.child([chart])))
        pool = self.object("pool", _object("IPAddressPool", "lan", _addresses(site)), [webhook])
        spec = {"ipAddressPools": ["lan"]}
        self.object("advertisement", _object("L2Advertisement", "lan", spec), [pool])
        self.register_outputs({})

    def _webhook(self, settings: Settings) -> dict[str, Any]:
        return {
            "kubeconfig": self.site.cluster.kubeconfig,
            "configuration": "metallb-webhook-configuration",
            "namespace": NAMESPACE,
            "service": "metallb-webhook-service",
            "path": f"/apis/{API}/namespaces/{NAMESPACE}/ipaddresspools",
            "trial": _object("IPAddressPool", "trial", {"addresses": [TRIAL_ADDRESS]}),
            "version": settings.version or CHARTS["metallb"].version,
        }


def values() -> dict[str, Any]:
    """L2 alone, so no BGP daemon beside it.

    A speaker keeps quiet on nodes with the label `exclude-from-external-load-balancers`; the machine config gives it to
    control planes only where they run no pods.
    """
    return {
        "frrk8s": {"enabled": False},
        "controller": {"resources": requests("25m", "64Mi")},
        "speaker": {
            "frr": {"enabled": False},
            "resources": requests("25m", "64Mi"),
        },
    }


def addressed(site: Site, service: str) -> dict[str, str]:
    """What a LoadBalancer Service says to get the address that the settings give it; nothing for any address."""
    address = site.lab.platform.address(service)
    return {} if address is None else {ADDRESS: str(address)}


def _object(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": API, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}


def _addresses(site: Site) -> dict[str, Sequence[str]]:
    return {"addresses": [str(pool) for pool in site.lab.platform.pools]}
