"""Which cluster each pool joins, and by what: the Talos cluster, a tenant, or one of kubeadm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

import pulumi

from components.after import unrecorded
from providers.talos.resources import Cluster
from settings import Cni, Settings

if TYPE_CHECKING:  # what it imports takes longer than a cluster without a platform
    from components.part import Part

_USUAL_DNS = "10.96.0.10"  # where a start script looks that is told nothing else


@dataclass(frozen=True)
class Joined:
    """A cluster that pools join.

    Attributes:
        name: as the settings have it.
        beside: that name again, or None for the Talos cluster; see `providers.netboot.clusters`.
        kubeconfig: an administrator's, a secret.
        dns: where its pods ask for names; "" for the usual address.
        network: whether its pods get a network without the owner's doing.
    """

    name: str
    beside: str | None
    kubeconfig: pulumi.Output[str]
    dns: str
    network: bool


def joined(
    lab: Settings, cluster: Cluster, kubeconfigs: Mapping[str, pulumi.Output[str]], parts: Sequence[Part]
) -> dict[str, Joined]:
    """What each pool joins.

    Args:
        lab: the settings.
        cluster: that of Talos.
        kubeconfigs: of the clusters on Linux hosts, by name.
        parts: of the platform, tenants among them.
    """
    opened = {**kubeconfigs, **_tenants(lab, parts)}
    return {name: _joined(lab, pool.cluster or lab.cluster.name, cluster, opened) for name, pool in lab.pools.items()}


def _joined(lab: Settings, name: str, cluster: Cluster, opened: Mapping[str, pulumi.Output[str]]) -> Joined:
    if name == lab.cluster.name:
        dns = _dns(lab.cluster.service_subnets[0])
        return Joined(name, None, cluster.kubeconfig, dns, lab.cluster.cni is not Cni.NONE)
    # Without a record: what is destroyed by a tenant's name would take machines before the tenant's guard was asked.
    kubeconfig = unrecorded(opened[name])
    if name in lab.tenants:
        return Joined(name, name, kubeconfig, _dns(lab.tenants[name].service_subnet), network=False)
    further = lab.clusters[name]
    return Joined(name, name, kubeconfig, _dns(further.service_subnet), further.cni is not Cni.NONE)


def _tenants(lab: Settings, parts: Sequence[Part]) -> dict[str, pulumi.Output[str]]:
    """The kubeconfigs of tenants that pools join."""
    if not any(pool.cluster in lab.tenants for pool in lab.pools.values()):
        return {}
    from components.tenants import Tenant  # noqa: PLC0415  # where there are none, it is not imported

    return {part.name: part.admin for part in parts if isinstance(part, Tenant)}


def _dns(services: IPv4Network) -> str:
    """The tenth address, as Talos, kubeadm and Kamaji take it."""
    address = str(services[10])
    return "" if address == _USUAL_DNS else address
