"""What a kubeadm cluster and its hosts shall be, as it travels through property bags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from providers.errors import UserError

CONTROL_PLANE = "controlplane"
API_PORT = 6443  # of each API server; the endpoint in front of them may have another one


@dataclass(frozen=True)
class Cluster:
    """What all hosts of a cluster have in common.

    Attributes:
        version: of Kubernetes, as in "v1.36.1".
        host: name or address of the endpoint in front of the API servers.
        port: the endpoint's.
        vip: the address that the endpoint moves with; "" where a balancer of the owner's own is in front.
        kube_proxy: whether kubeadm installs kube-proxy.
        taint: whether ordinary pods keep away from control planes.
        kube_vip: the image of kube-vip where it holds the VIP, else "".
    """

    name: str
    version: str
    host: str
    port: int = API_PORT
    vip: str = ""
    pod_subnet: str = "10.244.0.0/16"
    service_subnet: str = "10.96.0.0/12"
    kube_proxy: bool = True
    taint: bool = False
    kube_vip: str = ""

    @property
    def endpoint(self) -> str:
        """The endpoint as kubeadm writes it."""
        return f"{self.host}:{self.port}"

    @property
    def server(self) -> str:
        """The endpoint's URL."""
        return f"https://{self.endpoint}"

    @classmethod
    def parse(cls, props: Mapping[str, Any]) -> Self:
        """From a property bag; numbers come as floats from the wire."""
        known = _known(cls, props)
        return cls(**{**known, "port": int(known.get("port", API_PORT))})


@dataclass(frozen=True)
class Node:
    """One host as a member of its cluster.

    Attributes:
        name: the host's name, and its Node's.
        address: where SSH answers.
        node_ip: its address in the cluster's network segment; the same as `address` where there is only one.
        taints: "key" to "value:Effect".
    """

    name: str
    address: str
    role: str
    node_ip: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_control_plane(self) -> bool:
        """Whether it runs etcd and an API server."""
        return self.role == CONTROL_PLANE

    @property
    def where(self) -> str:
        """The host as errors name it."""
        return f"{self.name} ({self.address})"

    @classmethod
    def parse(cls, props: Mapping[str, Any]) -> Self:
        """From a property bag."""
        return cls(**_known(cls, props))


def _known(kind: type, props: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `kind` that a bag holds."""
    return {item.name: props[item.name] for item in fields(kind) if item.name in props}


def minor(version: str) -> str:
    """The minor release that packages are kept under: "v1.36" of "v1.36.1".

    Raises:
        UserError: it is no version.
    """
    parts = version.removeprefix("v").split(".")
    if not version.startswith("v") or len(parts) < 3 or not all(part.isdigit() for part in parts[:2]):
        raise UserError(f"'{version}' is not a Kubernetes version; write all of it, such as v1.36.1")
    return f"v{parts[0]}.{parts[1]}"
