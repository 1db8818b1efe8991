"""A machine config as a node reads it: documents, look-ups, and what Talos refuses (facts B5, daytwo 1.3)."""

import hashlib
import ipaddress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast
from urllib.parse import urlsplit

import yaml

from twin.talos import kinds
from twin.talos.pki import BadPem, Pair, decode, load_certificate, load_key


class Unparsable(Exception):
    """The text is not a machine config at all."""


class Invalid(Exception):
    """The config is one that Talos refuses; all reasons are in the message."""


@dataclass(frozen=True)
class Config:
    """A parsed machine config. `main` is its v1alpha1 document, `others` are the rest."""

    text: bytes
    main: dict[str, Any]
    others: tuple[dict[str, Any], ...]

    def at(self, *path: str, default: Any = None) -> Any:
        """A value of the v1alpha1 document; `default` where the path ends early or holds null."""
        found: Any = self.main
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        return default if found is None else found

    def kind(self, kind: str) -> tuple[dict[str, Any], ...]:
        """All other documents of a kind."""
        return tuple(document for document in self.others if document.get("kind") == kind)

    @cached_property
    def control_plane(self) -> bool:
        """Whether the machine is a control plane."""
        return self.at("machine", "type") in ("controlplane", "init")

    @cached_property
    def identity(self) -> tuple[str, str]:
        """What the discovery service tells clusters apart by."""
        return str(self.at("cluster", "id")), str(self.at("cluster", "secret"))

    @property
    def kubelet_image(self) -> str:
        """The image that the kubelet runs from."""
        return str(self.at("machine", "kubelet", "image", default=""))

    @property
    def endpoint(self) -> str:
        """The URL of the Kubernetes API."""
        return str(self.at("cluster", "controlPlane", "endpoint", default=""))

    @property
    def endpoint_host(self) -> str:
        """The host of that URL."""
        return urlsplit(self.endpoint).hostname or ""

    @property
    def endpoint_port(self) -> int:
        """The port of that URL."""
        return urlsplit(self.endpoint).port or 443

    def authority(self, *path: str) -> Pair:
        """An authority of the config; its key is empty on workers."""
        return Pair(decode(self.at(*path, "crt")), decode(self.at(*path, "key")))

    def accepted(self, section: str) -> bytes:
        """Every authority that `machine` or `cluster` trusts, as one PEM text: the signing one first."""
        others = [decode(entry.get("crt")) for entry in self.at(section, "acceptedCAs", default=[])]
        every = (self.authority(section, "ca").crt, *others)
        return b"".join(pem if pem.endswith(b"\n") else pem + b"\n" for pem in every)

    def hostname(self, mac: str) -> str:
        """The name the node gives itself; without one, a stable name made from its hardware."""
        for document in self.kind("HostnameConfig"):
            if document.get("hostname"):
                return str(document["hostname"])
        static = self.at("machine", "network", "hostname")
        return str(static) if static else stable_name(mac)

    def pod_subnets(self) -> list[str]:
        """The pods' networks."""
        return list(self.at("cluster", "network", "podSubnets", default=["10.244.0.0/16"]))

    def service_subnets(self) -> list[str]:
        """The services' networks."""
        return list(self.at("cluster", "network", "serviceSubnets", default=["10.96.0.0/12"]))

    def cni(self) -> str:
        """The CNI that Talos itself would install."""
        return str(self.at("cluster", "network", "cni", "name", default="flannel"))


def stable_name(mac: str) -> str:
    """`talos-abc-123`, the same at each boot of a machine."""
    digest = hashlib.sha256(mac.encode()).hexdigest()
    return f"talos-{digest[:3]}-{digest[3:6]}"


def parse(text: bytes) -> Config:
    """Read the documents. Raises Unparsable with Talos' words for what was wrong."""
    try:
        documents = [part for part in yaml.load_all(text, Loader=yaml.CSafeLoader) if part is not None]
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Unparsable(f"failed to parse config: {str(error).splitlines()[0]}") from None
    if not documents or not all(isinstance(part, dict) for part in documents):
        raise Unparsable("failed to parse config: no configuration documents provided")
    mains = [part for part in documents if "kind" not in part]
    if len(mains) > 1:
        raise Unparsable("failed to parse config: not a unique v1alpha1 document")
    others = tuple(part for part in documents if "kind" in part)
    return Config(text, cast(dict[str, Any], mains[0]) if mains else {}, others)


def check(config: Config, version: tuple[int, int]) -> list[str]:
    """Refuse what Talos refuses on metal, all reasons at once; returns warnings. Raises Unparsable, Invalid."""
    unknown = kinds.unknown_keys(config.main)
    if unknown:
        raise Unparsable("failed to parse config: unknown keys found during decoding:\n" + "\n".join(unknown))
    for document in config.others:
        kind = str(document.get("kind"))
        if not kinds.registered(kind, version):
            raise Unparsable(f'failed to parse config: "{kind}" "{document.get("apiVersion")}": not registered')
    if not config.main:
        raise Invalid(
            "the applied machine configuration doesn't contain v1alpha1 config, did you mean to patch instead?"
        )
    errors = [*_machine(config), *_network(config), *_cluster(config), *_conflicts(config)]
    if errors:
        listed = "".join(f"\n\t* {error}" for error in errors)
        plural = "s" if len(errors) > 1 else ""
        raise Invalid(f"configuration validation failed: {len(errors)} error{plural} occurred:{listed}\n\n")
    return _warnings(config)


def _machine(config: Config) -> list[str]:
    errors = []
    kind = config.at("machine", "type")
    if kind not in ("controlplane", "worker", "init"):
        return [f'unknown machine type "{kind or ""}"']
    if config.at("persist") is False:
        errors.append("v1alpha1.persist is deprecated and must be true")
    install = config.at("machine", "install")
    if not install:
        errors.append('install instructions are required in "metal" mode')
    elif not install.get("disk") and not install.get("diskSelector"):
        errors.append("either install disk or diskSelector should be defined")
    if not config.at("machine", "token"):
        errors.append("machine token is required (.machine.token)")
    return errors + _authority_errors(config, kind == "worker")


def _authority_errors(config: Config, worker: bool) -> list[str]:
    if not config.at("machine", "ca", "crt"):
        return ["issuing Talos API CA is required (.machine.ca)"]
    errors = _pem_errors(config, ("machine", "ca"), key=not worker)
    if worker and config.at("machine", "ca", "key"):
        errors.append("issuing Talos API CA key is not allowed on non-controlplane nodes (.machine.ca)")
    if worker and config.at("cluster", "ca", "key"):
        errors.append("issuing Kubernetes CA key is not allowed on non-controlplane nodes (.cluster.ca)")
    if not worker:
        for name in ("ca", "aggregatorCA"):
            errors += _pem_errors(config, ("cluster", name), key=True)
        errors += _pem_errors(config, ("cluster", "etcd", "ca"), key=True)
    return errors + [error for section in ("machine", "cluster") for error in _accepted_errors(config, section)]


def _accepted_errors(config: Config, section: str) -> list[str]:
    try:
        for entry in config.at(section, "acceptedCAs", default=[]):
            load_certificate(decode(entry.get("crt")))
    except (BadPem, AttributeError):
        return [f"failed to parse CA certificate: failed to decode PEM block (.{section}.acceptedCAs)"]
    return []


def _pem_errors(config: Config, path: tuple[str, ...], *, key: bool) -> list[str]:
    dotted = "." + ".".join(path)
    try:
        pair = config.authority(*path)
        load_certificate(pair.crt)
        if key:
            load_key(pair.key)
    except BadPem:
        return [f"certificate or key is missing or can't be read ({dotted})"]
    return []


def _cluster(config: Config) -> list[str]:
    if not config.at("cluster"):
        return ["cluster instructions are required"]
    errors = []
    url = urlsplit(config.endpoint)
    if not config.endpoint:
        errors.append("cluster controlplane endpoint is required")
    elif url.scheme != "https" or not url.hostname:
        errors.append(f'invalid controlplane endpoint: "{config.endpoint}"')
    if not config.control_plane:
        sections = ("etcd", "apiServer", "controllerManager", "scheduler", "serviceAccount", "aggregatorCA")
        errors += [
            f"{name} config is only allowed on control plane machines"
            for name in sections
            if config.at("cluster", name)
        ]
    elif not config.at("cluster", "serviceAccount", "key"):
        errors.append("service account key is required (.cluster.serviceAccount)")
    if not config.at("cluster", "token"):
        errors.append("cluster bootstrap token is required (.cluster.token)")
    for subnet in config.pod_subnets() + config.service_subnets():
        errors += _subnet_errors(subnet)
    return errors


def _subnet_errors(subnet: object) -> list[str]:
    try:
        ipaddress.ip_network(str(subnet), strict=False)
    except ValueError:
        return [f'"{subnet}" is not a valid subnet']
    return []


def _network(config: Config) -> list[str]:
    errors = []
    for index, interface in enumerate(config.at("machine", "network", "interfaces", default=[])):
        path = f"networking.os.device[{index}]"
        named, selected = interface.get("interface"), interface.get("deviceSelector")
        if bool(named) == bool(selected):
            errors.append(
                f"[{path}]: required either config section to be set or only one of them (interface, deviceSelector)"
            )
        if interface.get("vip") and not config.control_plane:
            errors.append(f"[{path}]: virtual (shared) IP is not allowed on non-controlplane nodes")
    if config.kind("Layer2VIPConfig") and not config.control_plane:
        errors.append("virtual (shared) IP is not allowed on non-controlplane nodes")
    return errors


def _conflicts(config: Config) -> list[str]:
    if config.kind("HostnameConfig") and config.at("machine", "network", "hostname"):
        return ["static hostname is already set in v1alpha1 config"]
    return []


def _warnings(config: Config) -> list[str]:
    if config.at("machine", "install", "extensions"):
        return [
            ".machine.install.extensions is deprecated, please see https://www.talos.dev/latest/talos-guides/install/boot-assets/"
        ]
    return []


_IMMEDIATE_MACHINE = frozenset(
    [
        "ca",
        "acceptedCAs",
        "certSANs",
        "controlPlane",
        "install",
        "kernel",
        "kubelet",
        "logging",
        "network",
        "nodeAnnotations",
        "nodeLabels",
        "nodeTaints",
        "pods",
        "registries",
        "seccompProfiles",
        "sysctls",
        "sysfs",
        "time",
    ]
)


def needs_reboot(old: Config, new: Config) -> bool:
    """Whether a change can't be taken by a running node (.cluster and the sections above can; other documents too)."""
    before, after = old.main.get("machine", {}), new.main.get("machine", {})
    return any(
        before.get(key) != after.get(key) for key in {*before, *after} if key not in _IMMEDIATE_MACHINE
    ) or old.main.get("persist") != new.main.get("persist")


def same(old: Config, new: Config) -> bool:
    """Whether two configs say the same, whatever their formatting."""
    return old.main == new.main and old.others == new.others
