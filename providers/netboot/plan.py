"""What a boot service serves, as plain data: the service itself, its pools, and their machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address, IPv4Network


class Mode(Enum):
    """Who gives out addresses: the router, with the boot service beside it, or the boot service itself."""

    PROXY = "proxy"
    FULL = "full"


class Approval(Enum):
    """What becomes of a machine that nobody knows."""

    MANUAL = "manual"
    AUTOMATIC = "automatic"


@dataclass(frozen=True)
class Image:
    """What a machine boots.

    Attributes:
        name: of its folder under `images/`; another content has another name.
        cmdline: the kernel's arguments.
        kernel: where the kernel comes from: a URL, or a file's path.
        initramfs: where the initramfs comes from.
    """

    name: str
    cmdline: tuple[str, ...] = ()
    kernel: str = ""
    initramfs: str = ""


@dataclass(frozen=True)
class Machine:
    """One machine of a pool.

    Attributes:
        mac: of the card that it boots from, in lower case with colons.
        uuid: of its firmware (SMBIOS), for machines whose card changes; "" if it is not known.
        address: that DHCP gives it, in full mode.
        tags: names of its pool's tags.
        config: path under the HTTP root at which its config is served; "" for none.
    """

    name: str
    mac: str
    uuid: str = ""
    address: IPv4Address | None = None
    tags: tuple[str, ...] = ()
    config: str = ""


@dataclass(frozen=True)
class Pool:
    """Machines that boot the same image.

    Attributes:
        first, last: addresses whose holders belong to it, whatever their MAC address is.
        approval: None, unless unknown machines belong to it.
        config: path at which the config of machines without one of their own is served; "" for none.
        options: DHCP options of all of its machines, such as `option:ntp-server` -> `192.168.1.1`.
        tags: name -> DHCP options of the machines that carry it.
    """

    name: str
    image: Image
    machines: tuple[Machine, ...] = ()
    first: IPv4Address | None = None
    last: IPv4Address | None = None
    approval: Approval | None = None
    config: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def addresses(self) -> tuple[IPv4Address, ...]:
        """Every address of its range."""
        if self.first is None or self.last is None:
            return ()
        return tuple(IPv4Address(number) for number in range(int(self.first), int(self.last) + 1))


@dataclass(frozen=True)
class Loaders:
    """Files of iPXE under the TFTP root, by what a machine's firmware is; "" for a kind that is not served."""

    bios: str = "undionly.kpxe"
    efi64: str = "ipxe.efi"
    arm64: str = ""


@dataclass(frozen=True)
class Service:
    """The boot service.

    Attributes:
        address: at which machines reach it.
        port: of its HTTP server.
        interface: that it listens on; "" for the one that has `address`.
        subnet: the network that machines are in.
        first, last: the range that it gives out, in full mode.
        lease: how long an address is lent.
        gateway: of the machines, in full mode.
        nameservers: of the machines, in full mode.
        tftp_root: folder of the loaders.
    """

    address: IPv4Address
    subnet: IPv4Network
    port: int = 8080
    interface: str = ""
    mode: Mode = Mode.PROXY
    first: IPv4Address | None = None
    last: IPv4Address | None = None
    lease: str = "1h"
    gateway: IPv4Address | None = None
    nameservers: tuple[IPv4Address, ...] = ()
    tftp_root: str = "/var/lib/tftpboot"
    loaders: Loaders = Loaders()

    @property
    def url(self) -> str:
        """Its HTTP server."""
        return f"http://{self.address}:{self.port}"
