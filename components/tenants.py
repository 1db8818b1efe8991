"""Tenants: clusters whose control planes are pods of this one, each with an address of its own in the house's LAN."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pulumi

from components import datastore, kamaji
from components.metallb import ADDRESS
from components.part import Part, Site, requests
from providers.tenant.resources import JoinToken, Kept, TenantApi
from settings.parts import Kamaji as KamajiSettings
from settings.tenants import KONNECTIVITY_PORT, Datastore
from settings.tenants import Tenant as Settings

API_SERVER = requests("100m", "256Mi")
OTHERS = requests("25m", "64Mi")


def tenants(site: Site) -> Iterator[Part]:
    """The operator and every tenant. Tenants depend on it: one whose etcd is taken away has lost everything."""
    operator = kamaji.Kamaji(site, site.lab.platform.kamaji or KamajiSettings())
    yield operator
    for name, settings in site.lab.tenants.items():
        yield Tenant(site, name, settings, operator)


class Tenant(Part):
    """One tenant: its namespace, its control plane, perhaps an etcd of its own.

    Attributes:
        api: the URL of its API.
        admin: its administrator's kubeconfig, a secret.
        join: what machines join it with, a secret: token, endpoint, ca_hash, expires.
    """

    def __init__(self, site: Site, name: str, settings: Settings, operator: Part) -> None:
        super().__init__(name, site)
        self.api = f"https://{settings.address}:{settings.port}"
        namespace = self.namespace(name)
        needs = [namespace, *operator.made, *self._own(settings, namespace, operator)]
        plane = self.object("control-plane", control_plane(name, settings, self._store(settings)), needs)
        answers = self.keep(TenantApi(f"{name}-api", self._awaited(settings), self.child([plane])))
        asked = {"tenant": name, "endpoint": self.api, "admin": answers.admin}
        token = self.keep(JoinToken(f"{name}-join", asked, self.child([answers])))
        kept = {"tenant": name, "endpoint": self.api, "removable": settings.removable}
        self.keep(Kept(f"{name}-kept", kept, self.child([*needs, plane, answers, token])))
        self.admin, self.join = answers.admin, token.join
        self.register_outputs({})

    def _store(self, settings: Settings) -> str:
        return self.name if settings.datastore is Datastore.OWN else kamaji.STORE

    def _own(self, settings: Settings, namespace: pulumi.Resource, operator: Part) -> list[pulumi.Resource]:
        """The etcd of its own, if it has one."""
        if settings.datastore is not Datastore.OWN:
            return []
        members = datastore.etcd(self, self.name, [namespace], [kamaji.NAMESPACE])
        return [datastore.store(self, self.name, self.name, [*operator.made, *members])]

    def _awaited(self, settings: Settings) -> dict[str, Any]:
        return {
            "tenant": self.name,
            "endpoint": self.api,
            "version": settings.version,
            "replicas": settings.replicas,
            "kubeconfig": self.site.cluster.kubeconfig,
        }


def control_plane(name: str, settings: Settings, store: str) -> dict[str, Any]:
    """The TenantControlPlane. Its address stands in it twice: MetalLB gives it, and certificates are made for it."""
    return {
        "apiVersion": datastore.API,
        "kind": "TenantControlPlane",
        "metadata": {"name": name, "namespace": name},
        "spec": {
            "dataStore": store,
            "dataStoreSchema": schema(name),
            "dataStoreUsername": schema(name),
            "controlPlane": {"deployment": _deployment(settings), "service": _service(settings)},
            "kubernetes": {"version": settings.version, "kubelet": {"cgroupfs": "systemd"}},
            "networkProfile": _network(settings),
            "addons": _addons(settings),
        },
    }


def schema(name: str) -> str:
    """The prefix of a tenant's keys in an etcd, and its user there."""
    return f"tenant_{name.replace('-', '_')}"


def _deployment(settings: Settings) -> dict[str, Any]:
    return {
        "replicas": settings.replicas,
        "resources": {"apiServer": API_SERVER, "controllerManager": OTHERS, "scheduler": OTHERS},
    }


def _service(settings: Settings) -> dict[str, Any]:
    annotations = {ADDRESS: str(settings.address)}
    return {"serviceType": "LoadBalancer", "additionalMetadata": {"annotations": annotations}}


def _network(settings: Settings) -> dict[str, Any]:
    return {
        "address": str(settings.address),
        "port": settings.port,
        "certSANs": [str(settings.address), *settings.names],
        "podCidr": str(settings.pod_subnet),
        "serviceCidr": str(settings.service_subnet),
        "dnsServiceIPs": [str(settings.service_subnet[10])],
    }


def _addons(settings: Settings) -> dict[str, Any]:
    """What a cluster by kubeadm has, and Konnectivity: pods' addresses in a tenant lead nowhere from here."""
    agent = {"mode": "DaemonSet", "tolerations": [{"operator": "Exists"}]}
    konnectivity = {"server": {"port": KONNECTIVITY_PORT}, "agent": agent}
    return {"coreDNS": {}, "kubeProxy": {}, **({"konnectivity": konnectivity} if settings.konnectivity else {})}
