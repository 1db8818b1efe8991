"""What a tenant's cluster needs so that machines can join it as they join any cluster of kubeadm's."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from typing import TYPE_CHECKING

import yaml

from twin.kubernetes.api import Api, Object
from twin.kubernetes.manifests import kwok

if TYPE_CHECKING:
    from twin.kubernetes.players.kamaji_servers import Plane

_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_JOINING = "system:bootstrappers:kubeadm:default-node-token"
_SIGN = "system:certificates.k8s.io:certificatesigningrequests"


async def prepare(api: Api, plane: Plane, server: str) -> None:
    """Make it all; what is there stays as it is. Raises ApiError."""
    for path, body in (*_roles(), *kwok(), *_files(plane, server, await _authority(api))):
        await api.create(path, body)


async def _authority(api: Api) -> str:
    """The cluster's CA, as the controller manager hands it to pods; it is there once that runs."""
    found = await api.get("/api/v1/namespaces/kube-system/configmaps/kube-root-ca.crt")
    return str(found["data"]["ca.crt"])


def _roles() -> Iterator[tuple[str, Object]]:
    nodes = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}
    yield f"{_RBAC}/clusterroles", _role("ClusterRole", "kubeadm:get-nodes", nodes)
    for name, role, group in (
        ("kubeadm:get-nodes", "kubeadm:get-nodes", _JOINING),
        ("kubeadm:kubelet-bootstrap", "system:node-bootstrapper", _JOINING),
        ("kubeadm:node-autoapprove-bootstrap", f"{_SIGN}:nodeclient", _JOINING),
        ("kubeadm:node-autoapprove-certificate-rotation", f"{_SIGN}:selfnodeclient", "system:nodes"),
    ):
        yield f"{_RBAC}/clusterrolebindings", _binding("ClusterRoleBinding", name, f"ClusterRole/{role}", group)
    for namespace, name, files, groups in (
        ("kube-public", "kubeadm:bootstrap-signer-clusterinfo", ["cluster-info"], ("system:unauthenticated",)),
        ("kube-system", "kubeadm:nodes-kubeadm-config", ["kubeadm-config"], (_JOINING, "system:nodes")),
        ("kube-system", "kubeadm:kubelet-config", ["kubelet-config"], (_JOINING, "system:nodes")),
    ):
        rule = {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": files, "verbs": ["get"]}
        yield f"{_RBAC}/namespaces/{namespace}/roles", _role("Role", name, rule)
        path = f"{_RBAC}/namespaces/{namespace}/rolebindings"
        yield path, _binding("RoleBinding", name, f"Role/{name}", *groups)


def _role(kind: str, name: str, rule: Object) -> Object:
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "rules": [rule]}


def _binding(kind: str, name: str, role: str, *groups: str) -> Object:
    of, _, called = role.partition("/")
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": kind,
        "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": of, "name": called},
        "subjects": [{"apiGroup": group, "kind": "Group", "name": one} for one in groups],
    }


def _files(plane: Plane, server: str, authority: str) -> Iterator[tuple[str, Object]]:
    """What a machine reads before it has a certificate, and what its kubelet is configured with."""
    yield _config("kube-public", "cluster-info", {"kubeconfig": _discovery(server, authority)})
    cluster = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "kubernetesVersion": plane.version,
        "controlPlaneEndpoint": f"{plane.address}:{plane.port}",
        "networking": {"podSubnet": plane.pods, "serviceSubnet": plane.services, "dnsDomain": "cluster.local"},
    }
    yield _config("kube-system", "kubeadm-config", {"ClusterConfiguration": yaml.safe_dump(cluster)})
    kubelet = {"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration", "cgroupDriver": "systemd"}
    yield _config("kube-system", "kubelet-config", {"kubelet": yaml.safe_dump(kubelet)})


def _discovery(server: str, authority: str) -> str:
    """A kubeconfig without a user; the controller manager signs it with every token."""
    data = b64encode(authority.encode()).decode()
    cluster = {"name": "", "cluster": {"server": server, "certificate-authority-data": data}}
    return json.dumps({"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "contexts": [], "users": []})


def _config(namespace: str, name: str, data: dict[str, str]) -> tuple[str, Object]:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data}
    return f"/api/v1/namespaces/{namespace}/configmaps", body
