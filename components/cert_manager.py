"""cert-manager, and the house's own CA, which people's devices have to trust once."""

from __future__ import annotations

from typing import Any

import pulumi

from components.part import Part, Site, requests
from components.versions import CHARTS
from providers.kubernetes.ready import Webhook
from settings.parts import CertManager as Settings

NAMESPACE = "cert-manager"
API = "cert-manager.io/v1"
HOME_CA = "home-ca"  # the ClusterIssuer, and the Secret that its certificate and key are in


class CertManager(Part):
    """cert-manager with the ClusterIssuer `home-ca`."""

    def __init__(self, site: Site, settings: Settings) -> None:
        super().__init__("cert-manager", site, settings)
        namespace = self.namespace(NAMESPACE)
        chart = self.chart("cert-manager", NAMESPACE, values(), [namespace])
        webhook = self.keep(Webhook("cert-manager-webhook", self._webhook(settings), self.child([chart])))
        self._home_ca(webhook)
        self.register_outputs({})

    def _home_ca(self, webhook: pulumi.Resource) -> None:
        """A CA that signs itself, and what issues certificates from it."""
        self_signed = self.object("self-signed", issuer("self-signed", {"selfSigned": {}}), [webhook])
        authority = self.object("authority", _authority(self.site.lab.cluster.name), [self_signed])
        self.object(HOME_CA, issuer(HOME_CA, {"ca": {"secretName": HOME_CA}}), [authority])

    def _webhook(self, settings: Settings) -> dict[str, Any]:
        return {
            "kubeconfig": self.site.cluster.kubeconfig,
            "configuration": "cert-manager-webhook",
            "namespace": NAMESPACE,
            "service": "cert-manager-webhook",
            "path": f"/apis/{API}/namespaces/{NAMESPACE}/certificates",
            "trial": certificate("trial", NAMESPACE, ["trial.invalid"]),
            "version": settings.version or CHARTS["cert-manager"].version,
        }


def values() -> dict[str, Any]:
    """Its CRDs stay when it goes: with them would go every certificate of the cluster."""
    small = requests("10m", "64Mi")
    return {
        "crds": {"enabled": True, "keep": True},
        "startupapicheck": {"enabled": False},  # a hook; `Webhook` checks the same
        "resources": small,
        "webhook": {"resources": small},
        "cainjector": {"resources": small},
    }


def issuer(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """A ClusterIssuer."""
    return {"apiVersion": API, "kind": "ClusterIssuer", "metadata": {"name": name}, "spec": spec}


def certificate(name: str, namespace: str, names: list[str]) -> dict[str, Any]:
    """A certificate from the home CA, in the Secret `name`."""
    spec = {
        "secretName": name,
        "dnsNames": names,
        "privateKey": {"algorithm": "ECDSA", "size": 256},
        "issuerRef": {"group": "cert-manager.io", "kind": "ClusterIssuer", "name": HOME_CA},
    }
    return {"apiVersion": API, "kind": "Certificate", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def _authority(cluster: str) -> dict[str, Any]:
    spec = {
        "isCA": True,
        "commonName": f"{cluster} home CA",
        "secretName": HOME_CA,
        "duration": "87600h",  # ten years: renewing it means to trust a new one on every device of the house
        "renewBefore": "8760h",
        "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Never"},
        "issuerRef": {"group": "cert-manager.io", "kind": "ClusterIssuer", "name": "self-signed"},
    }
    return {
        "apiVersion": API,
        "kind": "Certificate",
        "metadata": {"name": HOME_CA, "namespace": NAMESPACE},
        "spec": spec,
    }
