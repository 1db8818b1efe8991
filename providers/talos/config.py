"""One node's machine config, made of the settings and the cluster's secrets.

The shape is what `talosctl gen config` writes for Talos 1.9 to 1.13; the network stays in its v1alpha1 form, which all
of them take, except for the host name, which from 1.12 on has a document of its own.
Protocol source: https://www.talos.dev/latest/reference/configuration/.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from providers.errors import UserError
from providers.talos import documents, patches
from providers.talos.compare import fingerprint, same, summary
from providers.talos.documents import Document
from providers.talos.secrets import SecretsBundle, accepted, b64, encoded

__all__ = ["NodeConfig", "fingerprint", "render", "same", "summary"]

CONTROL_PLANE = "controlplane"
WORKER = "worker"

_LONGHORN_EXTENSION = "siderolabs/iscsi-tools"
_LONGHORN_PATH = "/var/lib/longhorn"
_EXCLUDE_LABEL = "node.kubernetes.io/exclude-from-external-load-balancers"
_EVERYWHERE = "0.0.0.0"  # noqa: S104 - metrics are to be scraped from other nodes (FAILURE-MODES 4e.42)


@dataclass(frozen=True)
class NodeConfig:
    """Everything about one node that is not a secret of the cluster. Addresses and subnets are texts.

    Attributes:
        cluster: the cluster's name.
        name: the node's host name.
        role: `controlplane` or `worker`.
        mac: of the network interface in the LAN; it selects the interface, whatever the kernel calls it.
        address: the node's address in the LAN.
        vip: the address that the control planes share.
        subnet: the LAN.
        talos: version, `v1.13.9`; decides which documents are used.
        kubernetes: version, `v1.36.1`.
        installer: image that installs and upgrades.
        dns: name for the VIP.
        port: of the Kubernetes API.
        disk: install disk's device; or
        disk_selector: attributes of the install disk (`size`, `type`, `model`, `serial`, ...) that survive a renaming.
        gateway: the LAN's router for a static address; None leaves address and routes to DHCP.
        cni: `flannel` comes with Talos; `flannel-host-gw`, `cilium`, `cilium-kube-proxy-free` and `none` leave the
            network to be installed afterwards, the third without kube-proxy as well.
        extensions: in the image; with iSCSI the kubelet gets Longhorn's mount.
        longhorn_path: where Longhorn keeps its replicas, if that is not /var/lib/longhorn.
        taints: key to `value:Effect`.
        mirrors: registry host to URLs asked before it.
        credentials: registry host to {username, password}.
        patches: Talos config patches, the cluster's before the node's.
    """

    cluster: str
    name: str
    role: str
    mac: str
    address: str
    vip: str
    subnet: str
    talos: str
    kubernetes: str
    installer: str
    dns: str | None = None
    port: int = 6443
    disk: str | None = None
    disk_selector: Mapping[str, Any] = field(default_factory=dict)
    gateway: str | None = None
    nameservers: Sequence[str] = ()
    time_servers: Sequence[str] = ()
    cni: str = "flannel"
    pod_subnets: Sequence[str] = ("10.244.0.0/16",)
    service_subnets: Sequence[str] = ("10.96.0.0/12",)
    extensions: Sequence[str] = ()
    longhorn_path: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Mapping[str, str] = field(default_factory=dict)
    mirrors: Mapping[str, Sequence[str]] = field(default_factory=dict)
    credentials: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    schedule_on_control_planes: bool = True
    patches: Sequence[Mapping[str, Any] | str] = ()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> NodeConfig:
        """The same from a map with these names as keys, as it comes over Pulumi's wire (where 6443 is 6443.0).

        Raises:
            UserError: a key is unknown or missing.
        """
        known = {item.name for item in fields(cls)}
        given = {key: whole(value) for key, value in data.items() if value is not None}
        unknown = sorted(set(given) - known)
        if unknown:
            raise UserError(f"machine config: unknown keys {', '.join(unknown)}")
        try:
            return cls(**given)
        except TypeError as error:
            raise UserError(f"machine config: {error}") from None

    @property
    def is_control_plane(self) -> bool:
        """Whether it runs etcd and the Kubernetes API."""
        return self.role == CONTROL_PLANE

    @property
    def minor(self) -> tuple[int, int]:
        """Talos' version as (1, 13).

        Raises:
            UserError: it is not a version.
        """
        found = re.match(r"v?(\d+)\.(\d+)\.", self.talos)
        if found is None:
            raise UserError(f"talos version {self.talos!r}: write it like v1.13.9")
        return int(found[1]), int(found[2])

    @property
    def endpoint(self) -> str:
        """The Kubernetes API's URL. By address: the nodes must not need the house's DNS to find each other."""
        return f"https://{_bracketed(self.vip)}:{self.port}"


def render(node: NodeConfig, secrets: SecretsBundle) -> str:
    """The node's machine config as YAML, one or more documents; the same arguments always give the same text.

    Raises:
        UserError: a patch is wrong.
    """
    main: Document = {
        "version": "v1alpha1",
        "debug": False,
        "persist": True,
        "machine": _machine(node, secrets),
        "cluster": _control_plane(node, secrets) if node.is_control_plane else _member(node, secrets),
    }
    return documents.dump(patches.apply([main, *_extra_documents(node)], node.patches))


def whole(value: Any) -> Any:
    """Numbers as they were before JSON made floats of them."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: whole(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [whole(item) for item in value]
    return value


def _extra_documents(node: NodeConfig) -> list[Document]:
    if not _hostname_document(node):
        return []
    return [{"apiVersion": "v1alpha1", "kind": "HostnameConfig", "hostname": node.name, "auto": "off"}]


def _hostname_document(node: NodeConfig) -> bool:
    return node.minor >= (1, 12)


def _machine(node: NodeConfig, secrets: SecretsBundle) -> Document:
    machine: Document = {
        "type": node.role,
        "token": secrets.trustd_token,
        # A worker must not hold the CA's key: Talos refuses the config.
        "ca": encoded(secrets.os) if node.is_control_plane else {"crt": b64(secrets.os.signing)},
        "certSANs": [node.address],
        "kubelet": _kubelet(node),
        "network": _network(node),
        "install": _install(node),
        "features": _features(node),
    }
    labels = dict(sorted(node.labels.items()))
    if node.is_control_plane and not node.schedule_on_control_planes:
        labels = {_EXCLUDE_LABEL: "", **labels}
    optional = {
        "acceptedCAs": accepted(secrets.os),
        "registries": _registries(node),
        "time": {"servers": list(node.time_servers)} if node.time_servers else {},
        "nodeLabels": labels,
        "nodeTaints": dict(sorted(node.taints.items())),
    }
    return machine | {key: value for key, value in optional.items() if value}


def _kubelet(node: NodeConfig) -> Document:
    kubelet: Document = {
        "image": f"ghcr.io/siderolabs/kubelet:{node.kubernetes}",
        "defaultRuntimeSeccompProfileEnabled": True,
        "disableManifestsDirectory": True,
        "nodeIP": {"validSubnets": _own_subnets(node)},
    }
    if _LONGHORN_EXTENSION in node.extensions or node.longhorn_path:
        path = node.longhorn_path or _LONGHORN_PATH
        mount = {"destination": path, "type": "bind", "source": path}
        kubelet["extraMounts"] = [{**mount, "options": ["bind", "rshared", "rw"]}]
    return kubelet


def _own_subnets(node: NodeConfig) -> list[str]:
    """The LAN without the VIP: else a node may take the VIP for its own address (FAILURE-MODES 4b.13)."""
    return [node.subnet, f"!{node.vip}/{ipaddress.ip_address(node.vip).max_prefixlen}"]


def _network(node: NodeConfig) -> Document:
    interface: Document = {"deviceSelector": {"hardwareAddr": node.mac.lower()}}
    if node.gateway is None:
        interface["dhcp"] = True
    else:
        interface |= _static_address(node, node.gateway)
    if node.is_control_plane:
        interface["vip"] = {"ip": node.vip}
    network: Document = {} if _hostname_document(node) else {"hostname": node.name}
    network["interfaces"] = [interface]
    if node.nameservers:
        network["nameservers"] = list(node.nameservers)
    return network


def _static_address(node: NodeConfig, gateway: str) -> Document:
    prefix = ipaddress.ip_network(node.subnet).prefixlen
    everything = "0.0.0.0/0" if ipaddress.ip_address(gateway).version == 4 else "::/0"
    return {
        "dhcp": False,
        "addresses": [f"{node.address}/{prefix}"],
        "routes": [{"network": everything, "gateway": gateway}],
    }


def _install(node: NodeConfig) -> Document:
    disk = {"diskSelector": dict(node.disk_selector)} if node.disk_selector else {"disk": node.disk}
    # From 1.12 on, GRUB takes the kernel's arguments from the image, so that upgrades can change them.
    since_1_12 = {"grubUseUKICmdline": True} if node.minor >= (1, 12) else {}
    return {**disk, "image": node.installer, "wipe": False, **since_1_12}


def _features(node: NodeConfig) -> Document:
    before_documents = {"rbac": True, "stableHostname": True, "apidCheckExtKeyUsage": True}
    return {
        **({} if _hostname_document(node) else before_documents),
        "diskQuotaSupport": True,
        "kubePrism": {"enabled": True, "port": 7445},
        "hostDNS": {"enabled": True, "forwardKubeDNSToHost": True},
    }


def _registries(node: NodeConfig) -> Document:
    mirrors = {host: {"endpoints": list(urls)} for host, urls in sorted(node.mirrors.items())}
    logins = {
        host: {"auth": {"username": login["username"], "password": login["password"]}}
        for host, login in sorted(node.credentials.items())
    }
    return {key: value for key, value in (("mirrors", mirrors), ("config", logins)) if value}


def _member(node: NodeConfig, secrets: SecretsBundle) -> Document:
    """What every node knows of the cluster."""
    return {
        "id": secrets.cluster_id,
        "secret": secrets.cluster_secret,
        "controlPlane": {"endpoint": node.endpoint},
        "clusterName": node.cluster,
        "network": _cluster_network(node),
        "token": secrets.bootstrap_token,
        "ca": {"crt": b64(secrets.kubernetes.signing)},
        **({"acceptedCAs": others} if (others := accepted(secrets.kubernetes)) else {}),
        "discovery": {"enabled": True, "registries": {"kubernetes": {"disabled": True}, "service": {}}},
    }


def _cluster_network(node: NodeConfig) -> Document:
    return {
        # Up to 1.13 Talos' own flannel knows VXLAN alone: host-gw is installed like any other network.
        "cni": {"name": "flannel" if node.cni == "flannel" else "none"},
        "dnsDomain": "cluster.local",
        "podSubnets": list(node.pod_subnets),
        "serviceSubnets": list(node.service_subnets),
    }


def _control_plane(node: NodeConfig, secrets: SecretsBundle) -> Document:
    return {
        **_member(node, secrets),
        "ca": encoded(secrets.kubernetes),
        "secretboxEncryptionSecret": secrets.secretbox_secret,
        "aggregatorCA": encoded(secrets.aggregator),
        "serviceAccount": {"key": b64(secrets.service_account_key)},
        "apiServer": _api_server(node),
        "controllerManager": {
            "image": _image("kube-controller-manager", node),
            "extraArgs": {"bind-address": _EVERYWHERE},
        },
        "scheduler": {"image": _image("kube-scheduler", node), "extraArgs": {"bind-address": _EVERYWHERE}},
        "proxy": _proxy(node),
        "etcd": {
            "ca": encoded(secrets.etcd),
            "advertisedSubnets": _own_subnets(node),
            "extraArgs": {"listen-metrics-urls": f"http://{_EVERYWHERE}:2381"},
        },
        "allowSchedulingOnControlPlanes": node.schedule_on_control_planes,
    }


def _api_server(node: NodeConfig) -> Document:
    names = [node.vip, *([node.dns] if node.dns else []), node.address]
    return {
        "image": _image("kube-apiserver", node),
        "certSANs": names,
        **({} if _hostname_document(node) else {"disablePodSecurityPolicy": True}),
        "admissionControl": [{"name": "PodSecurity", "configuration": _pod_security()}],
        "auditPolicy": {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]},
    }


def _pod_security() -> Document:
    levels = {"enforce": "baseline", "audit": "restricted", "warn": "restricted"}
    versions = {f"{mode}-version": "latest" for mode in levels}
    return {
        "apiVersion": "pod-security.admission.config.k8s.io/v1alpha1",
        "kind": "PodSecurityConfiguration",
        "defaults": {**levels, **versions},
        "exemptions": {"namespaces": ["kube-system"], "runtimeClasses": [], "usernames": []},
    }


def _proxy(node: NodeConfig) -> Document:
    if node.cni == "cilium-kube-proxy-free":
        return {"disabled": True}
    arguments = {"metrics-bind-address": f"{_EVERYWHERE}:10249"}
    return {"image": _image("kube-proxy", node), "extraArgs": arguments}


def _image(component: str, node: NodeConfig) -> str:
    return f"registry.k8s.io/{component}:{node.kubernetes}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
