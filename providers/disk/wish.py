"""What the settings say of one card, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

GB = 10**9
GIB = 1 << 30


@dataclass(frozen=True)
class Network:
    """How the machine gets its address.

    Attributes:
        interface: name of its network card.
        address: with the length (`192.168.1.40/24`); "" is DHCP.
        gateway: "" is none, or DHCP's.
        nameservers: empty is those of DHCP.
        promiscuous: whether the interface takes packets for other MAC addresses.
    """

    interface: str = "eth0"
    address: str = ""
    gateway: str = ""
    nameservers: tuple[str, ...] = ()
    promiscuous: bool = False


@dataclass(frozen=True)
class Preparation:
    """What the machine shall be from its first boot on.

    Attributes:
        hostname: its name.
        user: who may become root.
        keys: the user's public SSH keys.
        network: its address.
        cmdline: words of the kernel's command line.
        read_only_root: whether the root file system is never written, changes going to RAM.
        boot_bytes: size of the boot partition; 0 is as the image has it.
    """

    hostname: str
    user: str
    keys: tuple[str, ...]
    network: Network = field(default_factory=Network)
    cmdline: tuple[str, ...] = ()
    read_only_root: bool = False
    boot_bytes: int = 0


@dataclass(frozen=True)
class Wish:
    """One card as it shall be.

    Attributes:
        card: its name in the settings.
        disk: a path of the disk or image file; "" is found by serial.
        serial: that the disk must have; "" is any.
        min_bytes: the disk must be as large.
        max_bytes: and not larger.
        image: file or URL.
        sha256: of the image file as published; "" is not checked.
        kind: talos, raspberry-pi-os or alpine.
        generation: how often it may have been written.
        preparation: for the first boot; None where the kind has none.
    """

    card: str
    disk: str
    serial: str
    min_bytes: int
    max_bytes: int
    image: str
    sha256: str
    kind: str
    generation: int
    preparation: Preparation | None = None


def read(props: Mapping[str, Any]) -> Wish:
    """The wish in a resource's properties; numbers come from the wire as floats."""
    prepare = props.get("prepare")
    return Wish(
        card=str(props["card"]),
        disk=str(props["disk"]),
        serial=str(props["serial"]),
        min_bytes=int(props["min_gb"]) * GB,
        max_bytes=int(props["max_gb"]) * GB,
        image=str(props["image"]),
        sha256=str(props["sha256"]),
        kind=str(props["kind"]),
        generation=int(props["generation"]),
        preparation=_preparation(prepare) if prepare else None,
    )


def _preparation(given: Mapping[str, Any]) -> Preparation:
    network = given["network"]
    return Preparation(
        hostname=str(given["hostname"]),
        user=str(given["user"]),
        keys=tuple(given["keys"]),
        network=Network(
            interface=str(network["interface"]),
            address=str(network["address"]),
            gateway=str(network["gateway"]),
            nameservers=tuple(network["nameservers"]),
            promiscuous=bool(network["promiscuous"]),
        ),
        cmdline=tuple(given["cmdline"]),
        read_only_root=bool(given["read_only_root"]),
        boot_bytes=int(given["boot_gib"]) * GIB,
    )
