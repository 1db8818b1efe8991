"""Headlamp: the cluster in a browser, with two logins, one that may only look and one that may do everything."""

from __future__ import annotations

import base64
from typing import Any

import pulumi

from components.ingress import ingress
from components.part import Part, Site, requests
from settings.parts import Headlamp as Settings

NAMESPACE = "headlamp"
ROLES = {"viewer": "view", "admin": "cluster-admin"}  # ServiceAccount -> ClusterRole


class Headlamp(Part):
    """Headlamp at k8s.<domain>. Whoever visits can do what their token can do, and nothing without one."""

    def __init__(self, site: Site, settings: Settings) -> None:
        super().__init__("headlamp", site, settings)
        namespace = self.namespace(NAMESPACE)
        chart = self.chart("headlamp", NAMESPACE, values(), [namespace])
        for account, role in ROLES.items():
            self.logins[f"headlamp-{account}-token"] = self._login(account, role, namespace)
        ingress(self, site.lab.platform.host("headlamp"), NAMESPACE, "headlamp", 80, depends_on=[chart])
        self.register_outputs({})

    def _login(self, account: str, role: str, namespace: pulumi.Resource) -> pulumi.Output[str]:
        """A ServiceAccount, what it may do, and a token that does not end."""
        user = self.object(account, _object("v1", "ServiceAccount", account), [namespace])
        self.object(f"{account}-binding", _binding(account, role), [user])
        token = _object("v1", "Secret", f"{account}-token") | {"type": "kubernetes.io/service-account-token"}
        token["metadata"]["annotations"] = {"kubernetes.io/service-account.name": account}
        secret = self.object(f"{account}-token", token, [user])
        return secret.data.apply(_token)


def values() -> dict[str, Any]:
    """Its own ServiceAccount may do nothing: the chart would make it an administrator."""
    return {"clusterRoleBinding": {"create": False}, "resources": requests("25m", "64Mi")}


def _object(api: str, kind: str, name: str) -> dict[str, Any]:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}}


def _binding(account: str, role: str) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": f"{NAMESPACE}-{account}"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}],
    }


def _token(data: dict[str, str] | None) -> str:
    """The token's text; Kubernetes fills it in, and the engine waits for that."""
    return base64.b64decode((data or {}).get("token", "")).decode("ascii")
