"""NFS: volumes in folders of the owner's server, or of a server that runs on a node of the cluster."""

from __future__ import annotations

from typing import Any, NamedTuple

import pulumi

from components.part import Part, Site, requests
from components.versions import IMAGES
from settings import Settings as Lab
from settings.parts import Nfs as Settings

NAMESPACE = "kube-system"  # where Talos allows pods to use the host, as the driver and the server must
SERVER = "nfs-server"
EXPORT = "/export"  # what our own server calls its folder
PORT = 2049
LABELS = {"app.kubernetes.io/name": SERVER}
CAPABILITIES = ["CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "SETGID", "SETUID", "SYS_RESOURCE"]

GANESHA = f"""NFS_Core_Param {{ Protocols = 4; fsid_device = true; }}
NFSv4 {{ Grace_Period = 30; Minor_Versions = 1, 2; }}
EXPORT {{
  Export_Id = 1; Path = {EXPORT}; Pseudo = {EXPORT};
  Access_Type = RW; Squash = No_Root_Squash; SecType = sys;
  FSAL {{ Name = VFS; }}
}}
"""


class Share(NamedTuple):
    """What can be mounted."""

    server: str
    path: str


class Nfs(Part):
    """The CSI driver and a StorageClass; and the server, where the settings name a node."""

    def __init__(self, site: Site, settings: Settings) -> None:
        super().__init__("nfs", site, settings)
        needs: list[pulumi.Resource] = [self.chart("csi-driver-nfs", NAMESPACE, values())]
        if settings.node:
            config = self.object("server-config", _config(), needs)
            needs.append(self.object("server", _server(settings.node, settings.path), [config]))
        self.object("class", _storage_class(settings, share(site.lab)), needs)
        self.register_outputs({})


def share(lab: Lab) -> Share | None:
    """What the nfs part's volumes lie in, for those who mount a folder of it by themselves; None when it is off.

    The cluster's own server is on its node's network, so that kubelets reach it without the cluster's DNS.
    """
    settings = lab.platform.nfs
    if settings is None or not settings.enabled:
        return None
    if settings.node:
        return Share(str(lab.nodes[settings.node].address), EXPORT)
    return Share(settings.server or "", settings.path)


def values() -> dict[str, Any]:
    """Without snapshots: their kinds are not in a cluster by default."""
    return {"controller": {"enableSnapshotter": False, "runOnControlPlane": False}}


def _storage_class(settings: Settings, at: Share | None) -> dict[str, Any]:
    """A volume is a folder `namespace/name`, which stays: an application that is brought back finds its data."""
    server, path = at or ("", "")
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": settings.storage_class,
            "annotations": {"storageclass.kubernetes.io/is-default-class": str(settings.default_class).lower()},
        },
        "provisioner": "nfs.csi.k8s.io",
        "parameters": {
            "server": server,
            "share": path,
            "subDir": "${pvc.metadata.namespace}/${pvc.metadata.name}",
            "onDelete": "retain",
        },
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
        "mountOptions": ["nfsvers=4.1"],
    }


def _config() -> dict[str, Any]:
    metadata = {"name": SERVER, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"ganesha.conf": GANESHA}}


def _server(node: str, path: str) -> dict[str, Any]:
    """NFS-Ganesha, a server that needs no kernel module; one of it, never two over one folder."""
    pod = {
        "hostNetwork": True,
        "nodeSelector": {"kubernetes.io/hostname": node},
        "tolerations": [{"operator": "Exists", "effect": "NoSchedule"}],
        "containers": [_ganesha()],
        "volumes": [
            {"name": "data", "hostPath": {"path": path}},
            {"name": "config", "configMap": {"name": SERVER}},
        ],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": SERVER, "namespace": NAMESPACE, "labels": LABELS},
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": LABELS},
            "template": {"metadata": {"labels": LABELS}, "spec": pod},
        },
    }


def _ganesha() -> dict[str, Any]:
    """As root: files belong to whom the clients say."""
    probe = {"tcpSocket": {"port": PORT}, "periodSeconds": 10}
    return {
        "name": SERVER,
        "image": IMAGES["nfs-server"],
        "command": ["ganesha.nfsd", "-F", "-L", "/dev/stdout", "-p", "/tmp/ganesha.pid", "-f", "/etc/nfs/ganesha.conf"],  # noqa: S108  # in the container
        "ports": [{"name": "nfs", "containerPort": PORT, "hostPort": PORT}],
        "readinessProbe": probe,
        "livenessProbe": {**probe, "initialDelaySeconds": 30, "failureThreshold": 6},
        "resources": requests("50m", "128Mi"),
        "securityContext": {"capabilities": {"drop": ["ALL"], "add": CAPABILITIES}},
        "volumeMounts": [{"name": "data", "mountPath": EXPORT}, {"name": "config", "mountPath": "/etc/nfs"}],
    }
