"""The files that make a k3s node, from what a resource says. Pure: text in, text out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import yaml

CONFIG = "/etc/rancher/k3s/config.yaml"
TOKEN = "/etc/rancher/k3s/token"  # noqa: S105  # a path
KUBECONFIG = "/etc/rancher/k3s/k3s.yaml"
DATA = "/var/lib/rancher/k3s"
SERVER_TOKEN = f"{DATA}/server/token"
TLS = f"{DATA}/server/tls/server-ca.crt"
DB = f"{DATA}/server/db"
ASIDE = f"{DATA}/server/db.before-restore"
MANIFEST = f"{DATA}/server/manifests/kube-vip.yaml"
PASSWORD = "/etc/rancher/node/password"  # noqa: S105  # a path
MARK = "/etc/homelab/cluster"
BINARY = "/usr/local/bin/k3s"
SNAPSHOTS = "/var/lib/homelab/etcd"
PORT = 6443
ORIGIN = ("cluster-init", "server")
"""The keys that say how a server came in; they stay as they were when it did."""

KUBE_VIP = "ghcr.io/kube-vip/kube-vip:v1.2.3"
_FLANNEL = {"flannel": "vxlan", "flannel-host-gw": "host-gw", "none": "none"}


def unit(role: str) -> str:
    """The service's name."""
    return "k3s" if role == "controlplane" else "k3s-agent"


def subcommand(role: str) -> str:
    """What k3s is started as."""
    return "server" if role == "controlplane" else "agent"


def mark(cluster: str, token: str) -> str:
    """What stands on a host of a cluster: its name, and a digest that tells two of one name apart."""
    return f"{cluster} {hashlib.sha256(token.encode()).hexdigest()[:16]}\n"


def common(props: Mapping[str, Any], address: str) -> dict[str, Any]:
    """The keys that servers and agents have."""
    labels = [f"{key}={value}" for key, value in sorted(dict(props["labels"]).items())]
    taints = [_taint(key, str(value)) for key, value in sorted(dict(props["taints"]).items())]
    found = {"node-name": props["host"], "node-ip": address, "token-file": TOKEN}
    return found | ({"node-label": labels} if labels else {}) | ({"node-taint": taints} if taints else {})


def server(props: Mapping[str, Any], address: str, origin: Mapping[str, Any]) -> dict[str, Any]:
    """A server's config; `origin` is how it comes in, or came in."""
    cni = str(props["cni"])
    names = list(dict.fromkeys(str(name) for name in props["names"] if name))
    config = {
        **common(props, address),
        **origin,
        "cluster-cidr": props["pod_subnet"],
        "service-cidr": props["service_subnet"],
        "flannel-backend": _FLANNEL[cni],
        "secrets-encryption": bool(props["secrets_encryption"]),
        "write-kubeconfig-mode": "0600",
    }
    if int(props["api_port"]) != PORT:
        config["https-listen-port"] = int(props["api_port"])
    if cni == "none":
        config["disable-network-policy"] = True
    if names:
        config["tls-san"] = names
    if props["disable"]:
        config["disable"] = [str(part) for part in props["disable"]]
    return config


def agent(props: Mapping[str, Any], address: str) -> dict[str, Any]:
    """An agent's config."""
    return {**common(props, address), "server": props["registration"]}


def text(config: Mapping[str, Any]) -> bytes:
    """A config as its file; equal configs are equal text."""
    return yaml.safe_dump(dict(config), sort_keys=True).encode()


def origin_of(file: bytes | None) -> dict[str, Any]:
    """How the server of this file came in."""
    try:
        found = yaml.safe_load(file or b"")
    except yaml.YAMLError:
        return {}
    return {key: found[key] for key in ORIGIN if key in found} if isinstance(found, dict) else {}


def kubeconfig(file: bytes, cluster: str, url: str) -> str:
    """The administrator's kubeconfig of a server, for use from elsewhere and beside others."""
    given = yaml.safe_load(file)
    data = given["clusters"][0]["cluster"]["certificate-authority-data"]
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": {"server": url, "certificate-authority-data": data}}],
        "users": [{"name": f"admin@{cluster}", "user": given["users"][0]["user"]}],
        "contexts": [{"name": f"admin@{cluster}", "context": {"cluster": cluster, "user": f"admin@{cluster}"}}],
        "current-context": f"admin@{cluster}",
    }
    return yaml.safe_dump(document, sort_keys=False)


def _taint(key: str, given: str) -> str:
    value, _, effect = given.rpartition(":")
    return f"{key}={value}:{effect}"


def kube_vip(address: str, port: int) -> bytes:
    """The manifest of what announces the address that servers share, on whichever of them leads."""
    group, about = "rbac.authorization.k8s.io", {"name": "kube-vip", "namespace": "kube-system"}
    rules = [
        {"apiGroups": [""], "resources": ["services/status"], "verbs": ["update"]},
        {"apiGroups": [""], "resources": ["services", "endpoints"], "verbs": ["list", "get", "watch", "update"]},
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "get", "watch", "update", "patch"]},
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "verbs": ["list", "get", "watch", "update", "create"],
        },
        {
            "apiGroups": ["discovery.k8s.io"],
            "resources": ["endpointslices"],
            "verbs": ["list", "get", "watch", "update"],
        },
    ]
    role = {"apiGroup": group, "kind": "ClusterRole", "name": "homelab:kube-vip"}
    documents: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": about},
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "homelab:kube-vip"},
            "rules": rules,
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "homelab:kube-vip"},
            "roleRef": role,
            "subjects": [{"kind": "ServiceAccount", **about}],
        },
        _kube_vip_daemons(address, port),
    ]
    return "---\n".join(yaml.safe_dump(document, sort_keys=False) for document in documents).encode()


def _kube_vip_daemons(address: str, port: int) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": "kube-vip"}
    settings = {
        "vip_arp": "true", "port": str(port), "address": address, "vip_subnet": "32", "cp_enable": "true",
        "cp_namespace": "kube-system", "svc_enable": "false", "vip_leaderelection": "true",
        "vip_leasename": "plndr-cp-lock", "vip_leaseduration": "15", "vip_renewdeadline": "10",
        "vip_retryperiod": "2",
    }  # fmt: skip
    node = {"name": "vip_nodename", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
    container = {
        "name": "kube-vip",
        "image": KUBE_VIP,
        "args": ["manager"],
        "env": [*({"name": key, "value": value} for key, value in settings.items()), node],
        "securityContext": {"capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]}},
    }
    control_planes = {"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}
    affinity = {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [control_planes]}]
            }
        }
    }
    pod = {
        "hostNetwork": True,
        "serviceAccountName": "kube-vip",
        "tolerations": [
            {"effect": "NoSchedule", "operator": "Exists"},
            {"effect": "NoExecute", "operator": "Exists"},
        ],
        "affinity": affinity,
        "containers": [container],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "kube-vip-ds", "namespace": "kube-system", "labels": labels},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
    }


def listed(answer: str) -> list[str]:
    """The tokens that `k3s token list -o json` names."""
    return [str(item["token"]) for item in json.loads(answer or "[]")]
