"""Pods of our own, as Kubernetes takes them: nothing runs as root without a written reason, all say what they need."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ROOT_REASON = "homelab/root-reason"  # annotation of a pod in which something begins as root
CHECKSUM = "homelab/checksum"  # annotation that changes with what a pod reads at start, so that it is replaced
HTTP_PORT = 80

Object = dict[str, Any]


@dataclass(frozen=True)
class Port:
    """A port of a container and of its service.

    Attributes:
        container: what the process listens on.
        service: what others connect to.
    """

    name: str
    container: int
    service: int
    protocol: str = "TCP"


@dataclass(frozen=True)
class Container:
    """One process of a pod.

    Attributes:
        requests: `cpu` and `memory` that it is sure to get.
        probe: port (TCP) that answers when it works; None for one that ends, as an init container does.
        mounts: path -> volume, or volume/subpath.
        capabilities: kept; all others are dropped.
        root: whether it begins as root, which the pod's annotations must explain.
    """

    name: str
    image: Any
    requests: Mapping[str, str]
    ports: Sequence[Port] = ()
    probe: int | None = None
    mounts: Mapping[str, str] = field(default_factory=dict)
    env: Sequence[Object] = ()
    command: Sequence[str] = ()
    args: Sequence[str] = ()
    capabilities: Sequence[str] = ()
    root: bool = False

    @property
    def manifest(self) -> Object:
        """As it stands in a pod's spec."""
        optional = {
            "ports": [
                {"name": port.name, "containerPort": port.container, "protocol": port.protocol} for port in self.ports
            ],
            "volumeMounts": [_mount(path, volume) for path, volume in self.mounts.items()],
            "env": list(self.env),
            "command": list(self.command),
            "args": list(self.args),
            **_probes(self.probe),
        }
        return {
            "name": self.name,
            "image": self.image,
            "resources": {"requests": dict(self.requests)},
            "securityContext": self._security(),
            **{key: value for key, value in optional.items() if value},
        }

    def _security(self) -> Object:
        kept = {"add": list(self.capabilities)} if self.capabilities else {}
        as_root = {"runAsUser": 0, "runAsGroup": 0, "runAsNonRoot": False} if self.root else {}
        return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"], **kept}, **as_root}


def env(values: Mapping[str, str]) -> list[Object]:
    """Environment variables as a container lists them."""
    return [{"name": name, "value": value} for name, value in values.items()]


def deployment(
    name: str,
    namespace: str,
    containers: Sequence[Container],
    *,
    user: int,
    replicas: int = 1,
    never_two: bool = False,
    init: Sequence[Container] = (),
    volumes: Sequence[Object] = (),
    pull_secrets: Sequence[str] = (),
    annotations: Mapping[str, Any] | None = None,
) -> Object:
    """A Deployment whose pods run as `user`, which owns what they write.

    Args:
        name: of it, and the value of the label `app` of its pods.
        namespace: of it.
        containers: all run beside each other.
        user: number of user and group.
        replicas: how many pods.
        never_two: on update the old pod ends before the new one begins.
        init: run one after the other before `containers`.
        volumes: as a pod's spec lists them.
        pull_secrets: names of Secrets with logins to registries.
        annotations: of the pods.
    """
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": user,
            "runAsGroup": user,
            "fsGroup": user,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container.manifest for container in containers],
    }
    optional = {
        "initContainers": [container.manifest for container in init],
        "volumes": list(volumes),
        "imagePullSecrets": [{"name": secret} for secret in pull_secrets],
    }
    metadata = {"labels": {"app": name}, **({"annotations": dict(annotations)} if annotations else {})}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "strategy": {"type": "Recreate" if never_two else "RollingUpdate"},
            "template": {"metadata": metadata, "spec": pod | {key: value for key, value in optional.items() if value}},
        },
    }


def service(
    name: str,
    namespace: str,
    ports: Sequence[Port],
    *,
    app: str | None = None,
    lan: bool = False,
    annotations: Mapping[str, str] | None = None,
) -> Object:
    """A Service over the pods of a Deployment.

    Args:
        name: of it.
        namespace: of it.
        ports: which are reached through it.
        app: the Deployment's name, if it is another.
        lan: whether it gets an address in the house's LAN; clients keep their own address then.
        annotations: such as the address that it shall get.
    """
    kind = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"} if lan else {"type": "ClusterIP"}
    listed = [
        {"name": port.name, "port": port.service, "targetPort": port.container, "protocol": port.protocol}
        for port in ports
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "annotations": dict(annotations or {})},
        "spec": {**kind, "selector": {"app": app or name}, "ports": listed},
    }


def claim(name: str, namespace: str, size_gb: int, storage_class: str | None, *, shared: bool = False) -> Object:
    """A claim of a volume of `size_gb` GB; of the default class when none is named.

    Args:
        name: of it.
        namespace: of it.
        size_gb: its size.
        storage_class: where it comes from.
        shared: whether pods on several nodes may write to it, which only NFS lets them.
    """
    chosen = {"storageClassName": storage_class} if storage_class else {}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "accessModes": ["ReadWriteMany" if shared else "ReadWriteOnce"],
            "resources": {"requests": {"storage": f"{size_gb}G"}},
            **chosen,
        },
    }


def secret(name: str, namespace: str, texts: Mapping[str, Any], kind: str = "Opaque") -> Object:
    """A Secret of texts."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": kind,
        "metadata": {"name": name, "namespace": namespace},
        "stringData": dict(texts),
    }


def checksum(text: str) -> str:
    """What stands for a text in an annotation."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _mount(path: str, volume: str) -> Object:
    name, slash, inner = volume.partition("/")
    return {"name": name, "mountPath": path, **({"subPath": inner} if slash else {})}


def _probes(port: int | None) -> Object:
    """Slow boards take their time to start; a probe that kills too early never lets them."""
    if port is None:
        return {}
    check = {"tcpSocket": {"port": port}}
    return {
        "startupProbe": {**check, "periodSeconds": 5, "failureThreshold": 60},
        "readinessProbe": {**check, "periodSeconds": 10},
        "livenessProbe": {**check, "periodSeconds": 20, "failureThreshold": 6},
    }
