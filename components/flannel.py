"""Flannel with the host-gw backend: pods' packets are routed between nodes of one LAN, and not wrapped in VXLAN.

Talos' own flannel knows VXLAN alone (up to 1.13), so this one is installed by the program, with flannel's own names.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from components.part import Part, Site, requests
from components.versions import IMAGES

NAMESPACE = "kube-system"  # where Talos allows pods to use the host
LABELS = {"app": "flannel", "tier": "node"}
_CONFIG = "kube-flannel-cfg"
KUBE_PRISM = ("127.0.0.1", "7445")  # the service's own address needs the network that flannel is about to make


class Flannel(Part):
    """Flannel's DaemonSet, with what it may do and how it is set up."""

    def __init__(self, site: Site) -> None:
        super().__init__("flannel", site)
        install(self, str(site.lab.cluster.pod_subnets[0]), "host-gw", KUBE_PRISM)
        self.register_outputs({})


def install(
    part: Part, pods: str, backend: str, api: tuple[str, str] | None = None, arguments: Sequence[str] = ()
) -> None:
    """Make flannel's objects, as children of `part`.

    Args:
        part: whose they are.
        pods: the pods' network.
        backend: "host-gw" or "vxlan".
        api: host and port of the Kubernetes API, where its service's own address is not to be had yet.
        arguments: more of them for flanneld.
    """
    account = part.object("account", _object("v1", "ServiceAccount", "flannel"))
    role = part.object("role", _role())
    binding = part.object("binding", _binding(), [account, role])
    config = part.object("config", _config(pods, backend))
    # Its pods need nodes, and the nodes' memberships wait for its pods: so nobody waits for its pods here.
    daemon = _daemon(api, arguments)
    daemon["metadata"]["annotations"] = {"pulumi.com/skipAwait": "true"}
    part.object("daemon", daemon, [binding, config])


def _object(api: str, kind: str, name: str) -> dict[str, Any]:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE, "labels": LABELS}}


def _role() -> dict[str, Any]:
    rules = [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch"]},
    ]
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "flannel"},
        "rules": rules,
    }


def _binding() -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "flannel"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "flannel"},
        "subjects": [{"kind": "ServiceAccount", "name": "flannel", "namespace": NAMESPACE}],
    }


def _config(pods: str, backend: str) -> dict[str, Any]:
    plugins = [
        {"type": "flannel", "delegate": {"hairpinMode": True, "isDefaultGateway": True}},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    network = {"Network": pods, "Backend": {"Type": backend}}
    return {
        **_object("v1", "ConfigMap", _CONFIG),
        "data": {
            "cni-conf.json": json.dumps({"name": "cbr0", "cniVersion": "1.0.0", "plugins": plugins}, indent=2),
            "net-conf.json": json.dumps(network, indent=2),
        },
    }


def _daemon(api: tuple[str, str] | None, arguments: Sequence[str]) -> dict[str, Any]:
    pod = {
        "hostNetwork": True,
        "priorityClassName": "system-node-critical",
        "serviceAccountName": "flannel",
        "tolerations": [{"operator": "Exists"}],
        "initContainers": [
            _copy("install-plugin", IMAGES["flannel-plugin"], "/flannel", "/opt/cni/bin/flannel"),
            _copy(
                "install-config",
                IMAGES["flannel"],
                "/etc/kube-flannel/cni-conf.json",
                "/etc/cni/net.d/10-flannel.conflist",
            ),
        ],
        "containers": [_flanneld(api, arguments)],
        "volumes": [
            {"name": "run", "hostPath": {"path": "/run/flannel", "type": "DirectoryOrCreate"}},
            {"name": "plugins", "hostPath": {"path": "/opt/cni/bin"}},
            {"name": "network", "hostPath": {"path": "/etc/cni/net.d"}},
            {"name": "config", "configMap": {"name": _CONFIG}},
        ],
    }
    template = {"metadata": {"labels": LABELS}, "spec": pod}
    return {
        **_object("apps/v1", "DaemonSet", "kube-flannel"),
        "spec": {"selector": {"matchLabels": LABELS}, "template": template},
    }


_MOUNTS = [
    {"name": "run", "mountPath": "/run/flannel"},
    {"name": "plugins", "mountPath": "/opt/cni/bin"},
    {"name": "network", "mountPath": "/etc/cni/net.d"},
    {"name": "config", "mountPath": "/etc/kube-flannel"},
]


def _copy(name: str, image: str, source: str, target: str) -> dict[str, Any]:
    return {
        "name": name,
        "image": image,
        "command": ["cp", "-f", source, target],
        "resources": requests("10m", "16Mi"),
        "volumeMounts": _MOUNTS[1:],
    }


def _flanneld(api: tuple[str, str] | None, arguments: Sequence[str]) -> dict[str, Any]:
    """As root: it writes the node's routes."""
    names = ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")
    dialled = [{"name": name, "value": value} for name, value in zip(names, api or (), strict=False)]
    here = {name: {"fieldRef": {"fieldPath": path}} for name, path in _FIELDS.items()}
    return {
        "name": "kube-flannel",
        "image": IMAGES["flannel"],
        "command": [
            "/opt/bin/flanneld",
            "--ip-masq",
            "--kube-subnet-mgr",
            "--healthz-ip=127.0.0.1",
            "--healthz-port=8472",
            *arguments,
        ],
        "env": [
            *({"name": name, "valueFrom": source} for name, source in here.items()),
            *dialled,
        ],
        "readinessProbe": {"httpGet": {"host": "127.0.0.1", "path": "/healthz", "port": 8472}},
        "resources": requests("50m", "50Mi"),
        "securityContext": {"capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}},
        "volumeMounts": [_MOUNTS[0], _MOUNTS[3]],
    }


_FIELDS = {"POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace"}
