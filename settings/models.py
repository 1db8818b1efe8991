"""The settings as one tree of types. Docs and schema are made from the descriptions, units and defaults here."""

from collections.abc import Iterable
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Self

from pydantic import PrivateAttr, SecretStr, StrictBool, StrictInt, model_validator
from pydantic.json_schema import SkipJsonSchema

from . import kinds, platform_kinds, ranges
from .cards import Card
from .clusters import FurtherCluster
from .cni import Cni, Role
from .hosts import Host
from .part import Part, key
from .platform import Platform
from .pools import BootService, Pool
from .problems import Problem, SettingsError
from .tenants import Tenant

DEFAULT_DISK = "/dev/mmcblk0"
DEFAULT_EXTENSIONS = ("siderolabs/iscsi-tools", "siderolabs/util-linux-tools")
DEFAULT_PODS = IPv4Network("10.244.0.0/16")
DEFAULT_SERVICES = IPv4Network("10.96.0.0/12")


class Distribution(StrEnum):
    """What runs on the nodes."""

    TALOS = "talos"


class Module(StrEnum):
    """The compute module in a slot. Both are arm64 and boot through an overlay of the Image Factory."""

    RK1 = "rk1"
    CM4 = "cm4"

    @property
    def overlay(self) -> str:
        """The overlay's name at the Image Factory."""
        return "turingrk1" if self is Module.RK1 else "rpi_generic"


class DiskType(StrEnum):
    """Kinds of disks that Talos tells apart."""

    SSD = "ssd"
    HDD = "hdd"
    NVME = "nvme"
    SD = "sd"


class Endpoint(Part):
    """Where the Kubernetes API answers."""

    vip: kinds.Address = key(
        "Virtual address that the control planes share. A free address of the LAN, outside the DHCP range.",
        "192.168.1.230",
    )
    dns: kinds.DnsName | None = key("Name of the endpoint, if the house's DNS has one for the VIP.", default=None)
    port: StrictInt = key("Port of the Kubernetes API.", default=6443, ge=1, le=65535, unit="TCP port")

    @property
    def host(self) -> str:
        """The name if there is one, else the VIP."""
        return self.dns or str(self.vip)

    @property
    def url(self) -> str:
        """The API's URL, as it stands in the kubeconfig."""
        return f"https://{self.host}:{self.port}"


class Talos(Part):
    """The operating system of the nodes."""

    version: kinds.Version = key(
        "Talos version of all nodes; another one is rolled out by `up`, node by node, minor by minor. It has no "
        "default, so that a newer program never upgrades a cluster by itself.",
        "v1.13.9",
    )
    extensions: tuple[kinds.Extension, ...] = key(
        "System extensions in the image. The default is what Longhorn needs.", default=DEFAULT_EXTENSIONS
    )
    factory: kinds.Url = key("The Image Factory that images come from.", default="https://factory.talos.dev")
    sha256: kinds.Sha256 | None = key(
        "Expected SHA-256 of the image file as it is downloaded (the .raw.xz); not checked when absent.",
        default=None,
        unit="64 hex digits",
    )
    image: kinds.ImageSource | None = key(
        "Image file or URL (.raw, .raw.xz, .raw.zst) to flash instead of the factory's.", default=None
    )
    installer: platform_kinds.Image | None = key(
        "Installer image of the owner's own, for installing and upgrading, instead of the factory's. It goes with "
        "version: both are changed together.",
        default=None,
        unit="registry/name:tag",
    )
    max_unavailable: StrictInt = key(
        "How many workers may be away at once while versions are rolled out. Control planes always go one at a time.",
        default=1,
        ge=1,
        unit="nodes",
    )
    allow_reboot: StrictBool = key(
        "Whether a config change may reboot nodes. Otherwise such a change is staged until their next reboot.",
        default=False,
    )


class Kubernetes(Part):
    """The Kubernetes that Talos runs."""

    version: kinds.Version = key(
        "Kubernetes version; must be one that the Talos version supports, and goes up minor by minor. No default, as "
        "for Talos.",
        "v1.36.1",
    )


class Network(Part):
    """The LAN that nodes and VIP are in. Nodes keep their DHCP leases: give each a reservation in the router."""

    subnet: kinds.Subnet = key("The LAN.", "192.168.1.0/24", derived="the /24 around the VIP")
    gateway: kinds.Address | None = key(
        "The LAN's router, for nodes without DHCP. Absent: nodes take address and routes from DHCP.", default=None
    )
    dhcp: ranges.Range | None = key(
        "The router's DHCP range, for checks only: VIP and platform.pools must be outside of it.",
        default=None,
        unit="FIRST-LAST or network",
    )
    nameservers: tuple[kinds.Address, ...] = key(
        "DNS servers of the nodes; empty: those of DHCP. Never a server inside this cluster.", default=()
    )
    time_servers: tuple[kinds.Host, ...] = key("NTP servers of the nodes; empty: Talos' own default.", default=())


class Credential(Part):
    """The login to one registry."""

    username: str = key("User at the registry.", "octocat")
    password: kinds.Secret | None = key("Password or token, as a Pulumi secret.", default=None)


class Registries(Part):
    """Where the nodes pull container images from."""

    mirrors: dict[kinds.Host, tuple[kinds.Url, ...]] = key(
        "Registry host -> URLs that are asked before it, in order.", default_factory=dict
    )
    credentials: dict[kinds.Host, Credential] = key("Registry host -> login.", default_factory=dict)


class Cluster(Part):
    """The cluster as a whole."""

    name: kinds.Name = key("Name of the cluster and of its contexts.", default="home")
    distribution: Distribution = key("Only talos is there now.", default=Distribution.TALOS)
    endpoint: Endpoint = key("Where the Kubernetes API answers.", {"vip": "192.168.1.230"})
    talos: Talos = key("The operating system of the nodes.", {"version": "v1.13.9"})
    kubernetes: Kubernetes = key("The Kubernetes that Talos runs.", {"version": "v1.36.1"})
    cni: Cni = key(
        "Who gives pods their network. Only the two cilium enforce NetworkPolicy; flannel-host-gw is flannel without "
        "VXLAN; cilium-kube-proxy-free also takes kube-proxy's place; with none, nodes stay NotReady "
        "until a CNI is installed by hand.",
        default=Cni.FLANNEL,
    )
    schedule_on_control_planes: StrictBool = key("Whether control planes run ordinary pods too.", default=True)
    pod_subnets: tuple[kinds.Subnet, ...] = key("Where pods get addresses: one network.", default=(DEFAULT_PODS,))
    service_subnets: tuple[kinds.Subnet, ...] = key(
        "Where services get addresses: one network, /12 or smaller.", default=(DEFAULT_SERVICES,)
    )
    network: Network = key("The LAN.", derived="the /24 around the VIP, with DHCP")
    registries: Registries = key("Registry mirrors and logins.", default_factory=Registries)
    patches: tuple[kinds.Patch, ...] = key(
        "Talos config patches for all nodes (strategic merge): maps, or texts of one YAML document each.", default=()
    )


class Board(Part):
    """One Turing Pi 2, seen through its BMC."""

    name: SkipJsonSchema[kinds.Name]
    address: kinds.BoardAddress = key(
        "Address of the BMC: host, host:port, or http(s)://host:port for a BMC without TLS.", "192.168.1.60"
    )
    username: str = key("User of the BMC.", default="root")
    password: kinds.Secret | None = key("Password of that user, as a Pulumi secret.", default=None)
    fingerprint: kinds.Fingerprint | None = key(
        "SHA-256 of the BMC's certificate. When set, any other certificate is refused; it is self-signed, so "
        "this is the only way to know the board.",
        default=None,
        unit="sha256:HEX",
    )

    @property
    def url(self) -> str:
        """The BMC's base URL."""
        return self.address if "://" in self.address else f"https://{self.address}"

    @property
    def plain_password(self) -> str:
        """The password itself. Raises SettingsError with the command to type when it isn't set."""
        if self.password is None:
            raise SettingsError("the settings", [password_unset(self.name)])
        return self.password.get_secret_value()


class Machine(Part):
    """Where a node's module sits."""

    board: kinds.Name = key("The board, by its name under boards.", "board1")
    slot: StrictInt = key("The slot as printed on the board.", 1, ge=1, le=4, unit="1 to 4")


class DiskSelector(Part):
    """Attributes that the install disk must all have; the first disk that does is taken."""

    size: kinds.DiskSize | None = key("Size, with a comparison, such as '>= 16GB'.", default=None, unit="GB, MiB, ...")
    type: DiskType | None = key("ssd, hdd, nvme or sd.", default=None)
    name: str | None = key("Name that the kernel gives.", default=None)
    model: str | None = key("Model; * and ? match as in file names.", default=None)
    serial: str | None = key("Serial number.", default=None)
    wwid: str | None = key("World-wide id.", default=None)
    uuid: str | None = key("UUID.", default=None)
    modalias: str | None = key("Modalias.", default=None)
    busPath: str | None = key("Path on the bus; * and ? match as in file names.", default=None)  # noqa: N815


class Install(Part):
    """The disk that Talos lives on: a device or a selector."""

    disk: kinds.DiskPath | None = key(f"Device. Without disk and selector it is {DEFAULT_DISK}.", default=None)
    selector: DiskSelector | None = key("Attributes of the disk, in place of its device name.", default=None)

    @model_validator(mode="before")
    @classmethod
    def _default(cls, given: Any) -> Any:
        return {"disk": DEFAULT_DISK} if given == {} else given


class Node(Part):
    """One module that is, or is to become, a node of the cluster."""

    name: SkipJsonSchema[kinds.Name]
    role: Role = key("controlplane or worker.", "worker")
    address: kinds.Address = key("Address of the node: the DHCP reservation for its MAC.", "192.168.1.231")
    mac: kinds.Mac = key("MAC address of its network card.", "02:00:00:00:00:01")
    machine: Machine = key("Where its module sits.", {"board": "board1", "slot": 1})
    module: Module = key("Kind of compute module.", default=Module.RK1)
    install: Install = key("The disk that Talos lives on.", default=Install(disk=DEFAULT_DISK))
    labels: dict[kinds.LabelKey, kinds.LabelValue] = key("Kubernetes labels.", default_factory=dict)
    taints: dict[kinds.LabelKey, kinds.Taint] = key(
        'Kubernetes taints: key -> "value:NoSchedule".', default_factory=dict
    )
    patches: tuple[kinds.Patch, ...] = key("Talos config patches for this node, after the cluster's.", default=())
    generation: StrictInt = key(
        "How often this node's disk may have been written. 0: never flash, only adopt a node that runs; 1: install it; "
        "one more: erase and reinstall it once.",
        default=0,
        ge=0,
        unit="count",
    )
    disabled: StrictBool = key("Keep this node out of the cluster, powered off.", default=False)

    @property
    def is_control_plane(self) -> bool:
        """Whether this node runs etcd and the Kubernetes API."""
        return self.role is Role.CONTROLPLANE

    @property
    def board(self) -> str:
        """Name of the board that its module sits on."""
        return self.machine.board

    @property
    def slot(self) -> int:
        """Slot on the board, 1 to 4; the BMC's API counts from 0."""
        return self.machine.slot


class Settings(Part):
    """Everything an owner decides about one lab."""

    cluster: Cluster = key("The cluster as a whole.")
    boards: dict[kinds.Name, Board] = key("Name -> Turing Pi 2 board.")
    nodes: dict[kinds.Name, Node] = key("Name -> node. Names are host names and Kubernetes node names.")
    platform: Platform = key(
        "What runs on the cluster. A part that is not there is off; `{}` turns it on.", default_factory=Platform
    )
    cards: dict[kinds.Name, Card] = key(
        "Name -> SD or eMMC card, written in a reader on this machine.", default_factory=dict
    )
    boot_service: BootService | None = key("What answers machines that boot from the network.", default=None)
    pools: dict[kinds.Name, Pool] = key(
        "Name -> machines that boot the same image from the network; they need boot_service.", default_factory=dict
    )
    tenants: dict[kinds.Name, Tenant] = key(
        "Name -> a cluster whose control plane runs as pods of this one.", default_factory=dict
    )
    clusters: dict[kinds.Name, FurtherCluster] = key(
        "Name -> a cluster beside that of Talos. Each is of one kind: k3s or kubeadm.", default_factory=dict
    )
    hosts: dict[kinds.Name, Host] = key(
        "Name -> Linux host over SSH. Names are Kubernetes node names.", default_factory=dict
    )
    _warnings: tuple[Problem, ...] = PrivateAttr(default=())

    @property
    def enabled_nodes(self) -> tuple[Node, ...]:
        """The nodes that shall be in the cluster, in the file's order."""
        return tuple(node for node in self.nodes.values() if not node.disabled)

    @property
    def control_planes(self) -> tuple[Node, ...]:
        """The enabled control planes, in the file's order. The order means nothing: there is no first node."""
        return tuple(node for node in self.enabled_nodes if node.is_control_plane)

    @property
    def control_plane_addresses(self) -> tuple[IPv4Address, ...]:
        """Where the Talos API of the control planes answers; never the VIP, which dies with etcd."""
        return tuple(node.address for node in self.control_planes)

    def hosts_of(self, cluster: str) -> tuple[Host, ...]:
        """The hosts that shall be in a cluster, in the file's order."""
        return tuple(host for host in self.hosts.values() if host.cluster == cluster and not host.disabled)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What is allowed and probably not meant."""
        return self._warnings

    def noted(self, warnings: Iterable[Problem]) -> Self:
        """These settings, with the warnings that came up as they were read."""
        self._warnings = tuple(warnings)
        return self


def password_unset(board: str) -> Problem:
    """A board without a password: a warning as long as files are only read, a mistake where boards are touched."""
    return Problem(("boards", board, "password"), "is not set", f"type `{set_secret(('boards', board, 'password'))}`")


def set_secret(where: tuple[str | int, ...]) -> str:
    """The command that stores a secret of this project's config."""
    return f"homelab secret '{Problem(where, '', '').path}'"


def plain(secret: SecretStr | None) -> str | None:
    """A secret's text, for the one place that sends it."""
    return None if secret is None else secret.get_secret_value()
