"""MetalLB: gives services addresses of the house's LAN, and answers ARP for them from one node each."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import Any

from components.part import Part, Site, requests
from components.versions import CHARTS
from providers.kubernetes.ready import Webhook
from settings.parts import MetalLB as Settings
from settings.platform import Platform

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
        specs = pools(site.lab.platform, (tenant.address for tenant in site.lab.tenants.values()))
        made = [
            self.object(f"pool-{name}", _object("IPAddressPool", name, spec), [webhook]) for name, spec in specs.items()
        ]
        self.object("advertisement", _object("L2Advertisement", "lan", {"ipAddressPools": list(specs)}), made)
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


def pools(chosen: Platform, tenants: Iterable[IPv4Address] = ()) -> dict[str, dict[str, Any]]:
    """The pools' specs by name: addresses for whoever asks, and apart those that the settings have given away."""
    fixed = {*chosen.addresses.values(), *tenants}
    free = [rest for pool in chosen.pools for rest in pool.without(one for one in fixed if one in pool)]
    reserved = [f"{address}/32" for address in sorted(fixed)]
    found: dict[str, dict[str, Any]] = {
        "lan": {"addresses": [str(pool) for pool in free]},
        "reserved": {"addresses": reserved, "autoAssign": False},
    }
    return {name: spec for name, spec in found.items() if spec["addresses"]}
