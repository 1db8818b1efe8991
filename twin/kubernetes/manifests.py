"""What Talos puts into a new cluster: the bootstrap token, who may use it, and the DaemonSets of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from twin.kubernetes.node import NETWORKS

if TYPE_CHECKING:
    from twin.talos.config import Config

Object = dict[str, Any]
_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_BOOTSTRAPPERS = "system:bootstrappers:nodes"


def bootstrap(config: Config) -> Iterator[tuple[str, Object]]:
    """Path and body of every object, in order."""
    yield "/api/v1/namespaces/kube-system/secrets", _token(str(config.at("cluster", "token")))
    yield from _bindings()
    yield from kwok()
    yield from daemons(config)


def daemons(config: Config) -> Iterator[tuple[str, Object]]:
    """Path and body of the DaemonSets, which Talos creates and never changes afterwards."""
    if not config.at("cluster", "proxy", "disabled", default=False):
        image = str(config.at("cluster", "proxy", "image", default="registry.k8s.io/kube-proxy"))
        yield "/apis/apps/v1/namespaces/kube-system/daemonsets", daemon_set("kube-proxy", image)
    if config.cni() == "flannel":
        yield (
            "/apis/apps/v1/namespaces/kube-system/daemonsets",
            daemon_set("kube-flannel", "ghcr.io/siderolabs/flannel", NETWORKS),
        )


def _token(token: str) -> Object:
    name, _, secret = token.partition(".")
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": f"bootstrap-token-{name}", "namespace": "kube-system"},
        "stringData": {
            "token-id": name,
            "token-secret": secret,
            "usage-bootstrap-authentication": "true",
            "auth-extra-groups": _BOOTSTRAPPERS,
        },
    }


def kwok() -> Iterator[tuple[str, Object]]:
    """What kwok needs besides a kubelet's rights: it lists nodes once, unfiltered, and watches leases."""
    about = {"name": "twin:kwok"}
    rules = [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["list", "watch"]},
    ]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": about, "rules": rules}
    yield f"{_RBAC}/clusterroles", role
    yield f"{_RBAC}/clusterrolebindings", _binding("twin:kwok", "twin:kwok", "system:nodes")


def _bindings() -> Iterator[tuple[str, Object]]:
    prefix = "system:certificates.k8s.io:certificatesigningrequests"
    for name, role, group in (
        ("system-bootstrap-node-bootstrapper", "system:node-bootstrapper", _BOOTSTRAPPERS),
        ("system-bootstrap-approve-node-client-csr", f"{prefix}:nodeclient", _BOOTSTRAPPERS),
        ("system-bootstrap-node-renewal", f"{prefix}:selfnodeclient", "system:nodes"),
    ):
        yield f"{_RBAC}/clusterrolebindings", _binding(name, role, group)


def _binding(name: str, role: str, group: str) -> Object:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}],
    }


def daemon_set(name: str, image: str, written: str = "") -> Object:
    """One pod a node, tolerating everything, as kube-proxy and flannel are; flannel writes a folder of its node's."""
    labels = {"k8s-app": name, "tier": "node"}
    pod = {
        "hostNetwork": True,
        "priorityClassName": "system-node-critical",
        "automountServiceAccountToken": False,
        "tolerations": [{"operator": "Exists"}],
        "containers": [{"name": name, "image": image}],
    }
    if written:
        pod["volumes"] = [{"name": "cni", "hostPath": {"path": written}}]
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": "kube-system", "labels": labels},
        "spec": {
            "selector": {"matchLabels": {"k8s-app": name}},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
