"""kubeadm's documents, version v1beta4: https://kubernetes.io/docs/reference/config-api/kubeadm-config.v1beta4/."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from providers.kubeadm.wish import API_PORT, Cluster, Node

API = "kubeadm.k8s.io/v1beta4"
CRI_SOCKET = "unix:///run/containerd/containerd.sock"
CONTROL_PLANE_TAINT = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}

DESCRIPTION = "homelab: hosts that join"  # of every bootstrap token that this program makes

Document = dict[str, Any]


@dataclass(frozen=True)
class Ticket:
    """What a host shows when it joins.

    Attributes:
        token: a bootstrap token.
        ca_hash: the pin of the cluster's CA, "sha256:HEX".
        certificate_key: what opens the uploaded certificates, 64 hex digits; "" for a worker.
    """

    token: str = field(repr=False)
    ca_hash: str
    certificate_key: str = field(default="", repr=False)


def init(cluster: Cluster, node: Node, sans: Iterable[str], certificate_key: str = "") -> str:
    """What `kubeadm init` is given; with a certificate key also what uploads the certificates again.

    Args:
        cluster: what all have in common.
        node: the host that begins.
        sans: names and addresses that the API servers' certificates hold besides kubeadm's own.
        certificate_key: 64 hex digits.
    """
    first: Document = {
        "apiVersion": API,
        "kind": "InitConfiguration",
        # Without one, kubeadm makes a token for a day that nobody needs. This one serves the first joins.
        "bootstrapTokens": [{"ttl": "2h0m0s", "description": DESCRIPTION}],
        "localAPIEndpoint": {"advertiseAddress": node.node_ip, "bindPort": API_PORT},
        "nodeRegistration": _registration(cluster, node),
    }
    if certificate_key:
        first["certificateKey"] = certificate_key
    return _text(first, _cluster(cluster, sans), _kubelet())


def join(cluster: Cluster, node: Node, ticket: Ticket) -> str:
    """What `kubeadm join` is given."""
    document: Document = {
        "apiVersion": API,
        "kind": "JoinConfiguration",
        "discovery": {
            "bootstrapToken": {
                "apiServerEndpoint": cluster.endpoint,
                "token": ticket.token,
                "caCertHashes": [ticket.ca_hash],
            }
        },
        "nodeRegistration": _registration(cluster, node),
    }
    if node.is_control_plane:
        document["controlPlane"] = {
            "localAPIEndpoint": {"advertiseAddress": node.node_ip, "bindPort": API_PORT},
            "certificateKey": ticket.certificate_key,
        }
    return _text(document)


def sans(cluster: Cluster, control_planes: Iterable[Node]) -> list[str]:
    """What every API server may be called: the endpoint, its VIP, and all control planes on both of their networks."""
    names = [cluster.host, cluster.vip]
    for node in control_planes:
        names += [node.name, node.node_ip, node.address]
    return sorted({name for name in names if name})


def _registration(cluster: Cluster, node: Node) -> Document:
    arguments = {"node-ip": node.node_ip}
    if node.labels:
        arguments["node-labels"] = ",".join(f"{key}={value}" for key, value in sorted(node.labels.items()))
    return {
        "name": node.name,
        "criSocket": CRI_SOCKET,
        "taints": _taints(cluster, node),  # an empty list is no taint; without one kubeadm sets its own
        "kubeletExtraArgs": [{"name": key, "value": value} for key, value in arguments.items()],
    }


def _taints(cluster: Cluster, node: Node) -> list[dict[str, str]]:
    taints = [CONTROL_PLANE_TAINT] if node.is_control_plane and cluster.taint else []
    for key, text in sorted(node.taints.items()):
        value, _, effect = text.rpartition(":")
        taints.append({"key": key, "effect": effect, **({"value": value} if value else {})})
    return taints


def _cluster(cluster: Cluster, sans: Iterable[str]) -> Document:
    document: Document = {
        "apiVersion": API,
        "kind": "ClusterConfiguration",
        "clusterName": cluster.name,
        "kubernetesVersion": cluster.version,
        "controlPlaneEndpoint": cluster.endpoint,
        "encryptionAlgorithm": "ECDSA-P256",  # an RSA key takes a small board seconds, and every handshake its share
        "networking": {
            "podSubnet": cluster.pod_subnet,
            "serviceSubnet": cluster.service_subnet,
            "dnsDomain": "cluster.local",
        },
        "apiServer": {"certSANs": sorted(sans, key=_by_kind)},
    }
    if not cluster.kube_proxy:
        document["proxy"] = {"disabled": True}
    return document


def _by_kind(name: str) -> tuple[bool, object]:
    """Names, then addresses by number: the same order at every run."""
    try:
        return True, int(ipaddress.IPv4Address(name))
    except ValueError:
        return False, name


def _kubelet() -> Document:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "systemd",
        "shutdownGracePeriod": "30s",
        "shutdownGracePeriodCriticalPods": "10s",
    }


def _text(*documents: Mapping[str, Any]) -> str:
    return yaml.safe_dump_all(documents, sort_keys=False, explicit_start=True)
