"""Traefik: one address for all web pages of the cluster, told apart by their host names."""

from __future__ import annotations

from typing import Any

import pulumi

from components.cert_manager import certificate
from components.metallb import addressed
from components.part import Part, Site, requests
from settings.models import plain
from settings.parts import OwnCertificate
from settings.parts import Traefik as Settings

NAMESPACE = "traefik"
CERTIFICATE = "traefik-tls"  # the Secret that Traefik shows to everybody
LOGIN = "dashboard-login"
USER = "admin"


class Traefik(Part):
    """Traefik on a fixed address: HTTPS with one certificate for every host, its own dashboard behind a password."""

    def __init__(self, site: Site, settings: Settings) -> None:
        super().__init__("traefik", site, settings)
        namespace = self.namespace(NAMESPACE)
        chart = self.chart("traefik", NAMESPACE, values(site, settings), [namespace])
        own = settings.certificate.own
        if own is not None:
            self.object("certificate", _own(own), [namespace])
        elif site.lab.platform.on("cert-manager"):
            self.object("certificate", certificate(CERTIFICATE, NAMESPACE, _names(site)), [namespace])
        if settings.dashboard:
            self._login(chart)
        self.register_outputs({})

    def _login(self, chart: pulumi.Resource) -> None:
        """The dashboard's password; the Middleware's kind comes with the chart."""
        password = self.password()
        self.logins["traefik-password"] = password.result
        users = {"users": password.bcrypt_hash.apply(lambda digest: f"{USER}:{digest}\n")}
        metadata = {"name": LOGIN, "namespace": NAMESPACE}
        secret = self.object(
            "login", {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": users}, [chart]
        )
        spec = {"basicAuth": {"secret": LOGIN, "removeHeader": True}}
        middleware = {"apiVersion": "traefik.io/v1alpha1", "kind": "Middleware", "metadata": metadata, "spec": spec}
        self.object("middleware", middleware, [secret])


def values(site: Site, settings: Settings) -> dict[str, Any]:
    """Everything over HTTPS, with the default certificate wherever no other is named."""
    platform = site.lab.platform
    has_certificate = settings.certificate.own is not None or platform.on("cert-manager")
    return {
        "global": {"checkNewVersion": False},
        "service": {"annotations": addressed(site, "traefik")},
        "ports": {
            "web": {"http": {"redirections": {"entryPoint": {"to": "websecure", "scheme": "https", "permanent": True}}}}
        },
        "ingressRoute": {"dashboard": _dashboard(site)} if settings.dashboard else {},
        "tlsStore": {"default": {"defaultCertificate": {"secretName": CERTIFICATE}}} if has_certificate else {},
        "metrics": {"prometheus": {"service": {"enabled": platform.on("monitoring")}}},
        "resources": requests("50m", "96Mi"),
    }


def _dashboard(site: Site) -> dict[str, Any]:
    return {
        "enabled": True,
        "entryPoints": ["websecure"],
        "matchRule": f"Host(`{site.lab.platform.host('traefik')}`)",
        "middlewares": [{"name": LOGIN}],
    }


def _names(site: Site) -> list[str]:
    """Every host by name: programs that use OpenSSL take no wildcard right below a top-level domain (`*.local`)."""
    platform = site.lab.platform
    return [*platform.hosts, f"*.{platform.domain}"]


def _own(own: OwnCertificate) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": CERTIFICATE, "namespace": NAMESPACE},
        "stringData": {"tls.crt": own.certificate, "tls.key": pulumi.Output.secret(plain(own.key))},
    }
