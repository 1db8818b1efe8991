"""kube-vip as a static pod: it holds the VIP on one of the control planes, without a balancer in front of them."""

from __future__ import annotations

from typing import Any

import yaml

from providers.kubeadm.wish import API_PORT, Cluster

PATH = "/etc/kubernetes/manifests/kube-vip.yaml"
ADMIN = "/etc/kubernetes/admin.conf"
# While `kubeadm init` runs, only this one has rights; it is there on the host that began, and nowhere else.
SUPER_ADMIN = "/etc/kubernetes/super-admin.conf"


def manifest(cluster: Cluster, interface: str, *, initialising: bool = False) -> str:
    """The static pod.

    Args:
        cluster: with `kube_vip` and `vip` set.
        interface: the host's network interface in the segment of the VIP.
        initialising: the pod is for the host that `kubeadm init` runs on, while it runs.
    """
    credentials = SUPER_ADMIN if initialising else ADMIN
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "kube-vip", "namespace": "kube-system"},
        "spec": {
            "hostNetwork": True,
            "hostAliases": [{"hostnames": ["kubernetes"], "ip": "127.0.0.1"}],
            "containers": [_container(cluster, interface)],
            "volumes": [{"name": "kubeconfig", "hostPath": {"path": credentials, "type": "File"}}],
        },
    }
    return yaml.safe_dump(pod, sort_keys=False)


def _container(cluster: Cluster, interface: str) -> dict[str, Any]:
    environment = {
        "vip_arp": "true",
        "port": str(API_PORT),
        "vip_interface": interface,
        "vip_subnet": "32",
        "address": cluster.vip,
        "cp_enable": "true",
        "cp_namespace": "kube-system",
        "svc_enable": "false",  # addresses of services are the platform's
        "vip_leaderelection": "true",
        "vip_leasename": "plndr-cp-lock",
        "vip_leaseduration": "15",
        "vip_renewdeadline": "10",
        "vip_retryperiod": "2",
    }
    return {
        "name": "kube-vip",
        "image": cluster.kube_vip,
        "args": ["manager"],
        "env": [
            *({"name": name, "value": value} for name, value in environment.items()),
            {"name": "vip_nodename", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ],
        "securityContext": {"capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]}},
        "volumeMounts": [{"name": "kubeconfig", "mountPath": ADMIN}],
    }
