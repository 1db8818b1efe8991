"""Pools of machines that boot from the network, and the boot service that serves them."""

from enum import StrEnum

from pydantic import StrictBool, StrictInt

from . import kinds, pools_kinds, ranges
from .part import Part, key

MAX_RANGE = 256
"""The most addresses that a pool may be known by: each has a script of its own."""


class Mode(StrEnum):
    """Who gives out addresses."""

    PROXY = "proxy"
    FULL = "full"


class Approval(StrEnum):
    """What becomes of a machine that nobody wrote down."""

    MANUAL = "manual"
    AUTOMATIC = "automatic"


class Architecture(StrEnum):
    """What a machine's processor is."""

    AMD64 = "amd64"
    ARM64 = "arm64"


class FromNetwork(StrEnum):
    """How a machine's firmware boots from the network."""

    PXE = "pxe"
    HTTP = "http"


class BootService(Part):
    """What answers machines that boot from the network: dnsmasq and an HTTP server."""

    address: kinds.Address = key("Address at which machines reach it; with node, that node's.", "192.168.1.234")
    node: kinds.Name | None = key(
        "The node that it runs on, as a pod in the node's own network. One of node and folder.", default=None
    )
    folder: str | None = key(
        "Folder on this machine that its files are written to instead, for a host of your own that runs dnsmasq and "
        "an HTTP server out of it.",
        default=None,
    )
    interface: pools_kinds.Interface | None = key(
        "Network interface that it listens on. Absent: the one that has the address.", default=None
    )
    port: StrictInt = key("Port of its HTTP server.", default=8069, ge=1, le=65535, unit="TCP port")
    mode: Mode = key(
        "proxy: the router gives addresses, and this only tells what to boot. full: this gives addresses, and there "
        "is no other DHCP server in the LAN.",
        default=Mode.PROXY,
    )
    range: ranges.Range | None = key(
        "Addresses that it gives out in mode full.", default=None, unit="FIRST-LAST or network"
    )
    lease_minutes: StrictInt = key("How long an address is lent.", default=60, ge=2, unit="minutes")
    arm64_loader: kinds.Url | None = key(
        "Where iPXE for arm64 with UEFI comes from. Absent: only amd64 machines boot.", default=None
    )


class TalosImage(Part):
    """Talos out of the Image Factory, by its schematic."""

    version: kinds.Version | None = key(
        "Version; another one is rolled out by `up`. Absent: the cluster's.", default=None
    )
    architecture: Architecture = key("What the machines' processors are.", default=Architecture.AMD64)
    extensions: tuple[kinds.Extension, ...] = key("System extensions in the image.", default=())
    arguments: tuple[pools_kinds.Argument, ...] = key("More kernel arguments, such as console=ttyS0.", default=())


class LinuxImage(Part):
    """A plain Linux whose root is in RAM: a kernel and an initramfs."""

    release: pools_kinds.Release = key("Name of what the files hold; another one is rolled out by `up`.", "2026-11-21")
    kernel: pools_kinds.BootFile = key("URL of the kernel, or its file with boot_service.folder.", "http://nas/vmlinuz")
    initramfs: pools_kinds.BootFile = key("URL of the initramfs, or its file.", "http://nas/root.cpio.zst")
    kernel_sha256: kinds.Sha256 | None = key(
        "Expected SHA-256 of the kernel; not checked when absent.", default=None, unit="64 hex digits"
    )
    initramfs_sha256: kinds.Sha256 | None = key(
        "Expected SHA-256 of the initramfs; not checked when absent.", default=None, unit="64 hex digits"
    )
    arguments: tuple[pools_kinds.Argument, ...] = key("Kernel arguments.", default=())


class PoolImage(Part):
    """What a pool's machines boot: one of both."""

    talos: TalosImage | None = key("Talos.", default=None)
    linux: LinuxImage | None = key("A plain Linux.", default=None)


class Tag(Part):
    """What a tag means for the machines that carry it."""

    labels: dict[kinds.LabelKey, kinds.LabelValue] = key("Kubernetes labels.", default_factory=dict)
    taints: dict[kinds.LabelKey, kinds.Taint] = key(
        'Kubernetes taints: key -> "value:NoSchedule".', default_factory=dict
    )
    dhcp_options: dict[pools_kinds.DhcpOption, pools_kinds.DhcpValue] = key(
        "DHCP options as dnsmasq has them: option:NAME or a number -> value. Only in mode full.", default_factory=dict
    )


class BmcOfMachine(Part):
    """A machine's BMC, over Redfish."""

    address: kinds.BoardAddress = key("Address of the BMC: host, host:port, or https://host:port.", "192.168.1.80")
    username: str = key("User of the BMC.", "homelab")
    password: kinds.Secret = key("Password of that user, as a Pulumi secret.", "{secure: v1:...}")
    fingerprint: kinds.Fingerprint | None = key(
        "SHA-256 of the BMC's certificate. When set, any other certificate is refused.", default=None, unit="sha256:HEX"
    )
    system: str | None = key("Which machine is meant, where the BMC has several.", default=None)
    boot: FromNetwork = key("How the firmware boots from the network.", default=FromNetwork.PXE)

    @property
    def url(self) -> str:
        """The BMC's base URL."""
        return self.address if "://" in self.address else f"https://{self.address}"


class WakeOnLan(Part):
    """Waking by a magic packet to the machine's MAC address: it can be switched on so, never off."""

    broadcast: kinds.Address | None = key(
        "Broadcast address that the packet is sent to. Absent: that of cluster.network.subnet.", default=None
    )


class PowerOf(Part):
    """Who switches a machine: one of both."""

    redfish: BmcOfMachine | None = key("Its BMC.", default=None)
    wake_on_lan: WakeOnLan | None = key("Its own network card, where there is no BMC.", default=None)


class PoolMachine(Part):
    """One machine of a pool."""

    mac: kinds.Mac = key("MAC address of the card that it boots from.", "02:00:00:00:01:01")
    uuid: pools_kinds.Uuid | None = key("UUID of its firmware, by which it is known with another card.", default=None)
    address: kinds.Address | None = key("Address that mode full gives it. Absent: any.", default=None)
    tags: tuple[kinds.Name, ...] = key("Names of the pool's tags.", default=())
    power: PowerOf | None = key("Who switches it on. Absent: you.", default=None)
    generation: StrictInt = key(
        "With Talos, how often its disk may have been written. 0: it boots and waits, and nothing is written; 1: "
        "Talos installs itself on the pool's install disk.",
        default=0,
        ge=0,
        le=1,
        unit="count",
    )


class CatchAll(Part):
    """What becomes of machines that are in no pool and boot from the network."""

    approval: Approval = key(
        "manual: such a machine waits until you write it under a pool's machines. automatic: it joins by itself.",
        default=Approval.MANUAL,
    )


class Pool(Part):
    """Machines that boot the same image from the network."""

    cluster: kinds.Name | None = key(
        "The cluster that they join, by its name; a plain Linux also joins a tenant, or a cluster of kubeadm. Another "
        "one moves them there. Absent: cluster.name.",
        default=None,
    )
    image: PoolImage = key("What they boot.", {"talos": "{}"})
    machines: dict[kinds.Name, PoolMachine] = key(
        "Name -> machine. Names are host names and Kubernetes node names.", default_factory=dict
    )
    range: ranges.Range | None = key(
        "Machines that have one of these addresses belong to it as well, whatever their MAC address is.",
        default=None,
        unit="FIRST-LAST or network",
    )
    catch_all: CatchAll | None = key("Set for the one pool that machines of no pool come to.", default=None)
    install: kinds.DiskPath | None = key("With Talos, the disk that it installs itself on.", default=None)
    labels: dict[kinds.LabelKey, kinds.LabelValue] = key("Kubernetes labels of all of them.", default_factory=dict)
    taints: dict[kinds.LabelKey, kinds.Taint] = key(
        'Kubernetes taints of all of them: key -> "value:NoSchedule".', default_factory=dict
    )
    dhcp_options: dict[pools_kinds.DhcpOption, pools_kinds.DhcpValue] = key(
        "DHCP options of all of them: option:NAME or a number -> value. Only in mode full.", default_factory=dict
    )
    tags: dict[kinds.Name, Tag] = key("Name -> what it means for the machines that carry it.", default_factory=dict)
    token_hours: StrictInt = key(
        "How long a machine can join with what it was given; `up` renews it.", default=24, ge=1, unit="hours"
    )
    roll: StrictBool = key(
        "Whether another image reboots the machines, one by one. Otherwise they take it at their next start.",
        default=True,
    )
