"""SD and eMMC cards that are written in readers on this machine."""

import re
from enum import StrEnum
from ipaddress import IPv4Interface
from typing import Annotated, Any

from pydantic import PlainSerializer, StrictBool, StrictInt

from . import kinds
from .part import Part, key
from .problems import quoted, wrong

_DISK_FAMILIES = ("/dev/disk/by-id/", "/dev/disk/by-path/")
_PART_OF_DISK = re.compile(r"-part\d+\Z")
_IMAGE = re.compile(r"\.(img|raw)(\.(xz|zst|gz))?\Z")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}\Z")
_KEY = re.compile(r"(ssh-(ed25519|rsa)|ecdsa-sha2-nistp(256|384|521)|sk-\S+) AAAA[A-Za-z0-9+/]+=*( [^\n\"'\\]*)?\Z")
_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,14}\Z")
_WORD = re.compile(r"[A-Za-z0-9_.,:=/@+-]+\Z")


class CardKind(StrEnum):
    """What is on the image, and so how it is prepared for its first boot."""

    TALOS = "talos"
    RASPBERRY_PI_OS = "raspberry-pi-os"
    ALPINE = "alpine"


def _disk(value: object) -> str:
    text = kinds.as_text(value, "/dev/disk/by-id/usb-...")
    if _PART_OF_DISK.search(text):
        raise wrong(f"{quoted(text)} is a part of a disk", "leave out the -part and its number")
    if not text or (text.startswith("/dev/disk/") and not text.startswith(_DISK_FAMILIES)):
        raise wrong(f"{quoted(text)} does not name one disk for ever", f"take its name under {_DISK_FAMILIES[0]}")
    return text


def _image(value: object) -> str:
    text = kinds.as_text(value, "images/metal-arm64.raw.xz")
    if not _IMAGE.search(text):
        raise wrong(
            f"{quoted(text)} is not a raw disk image", "its name must end in .img or .raw, or that with .xz, .zst, .gz"
        )
    if "://" in text and not text.startswith("file://") and not kinds.is_url(text):
        # What stands before an @ may be a password, so such a text is never repeated.
        fault = "holds credentials" if "@" in text else f"{quoted(text)} is not an http(s) URL"
        raise wrong(fault, "write http(s)://host, without credentials")
    return text


def _interface_address(value: object) -> IPv4Interface:
    if isinstance(value, IPv4Interface):
        return value
    text = kinds.as_text(value, "192.168.1.40/24")
    if "/" not in text:
        raise wrong(f"{quoted(text)} has no length", "write it with the LAN's length, such as 192.168.1.40/24")
    try:
        return IPv4Interface(text)
    except ValueError:
        raise wrong(f"{quoted(text)} is not an IPv4 address", "write it as in 192.168.1.40/24") from None


def _serial(value: object) -> str:
    text = kinds.as_text(value, "0123").strip()
    if not text:
        raise wrong("is empty", "write the serial that `homelab cards` shows, or leave the key out")
    return text


def _matching(pattern: re.Pattern[str], example: str, what: str, fix: str) -> Any:
    def read(value: object) -> str:
        text = kinds.as_text(value, example)
        if not pattern.match(text):
            raise wrong(f"{quoted(text)} is not {what}", fix)
        return text

    return kinds.kind(read, {"type": "string"})


CardDisk = Annotated[str, *kinds.kind(_disk, {"type": "string"})]
CardImage = Annotated[str, *kinds.kind(_image, {"type": "string", "pattern": _IMAGE.pattern.replace("\\Z", "$")})]
InterfaceAddress = Annotated[
    IPv4Interface,
    *kinds.kind(_interface_address, {"type": "string", "pattern": "^[0-9.]+/[0-9]+$"}),
    PlainSerializer(str, return_type=str, when_used="json"),
]
Serial = Annotated[str, *kinds.kind(_serial, {"type": "string", "minLength": 1})]
User = Annotated[str, *_matching(_USER, "homelab", "a user's name", "use lower-case letters, digits, - and _")]
PublicKey = Annotated[
    str,
    *_matching(
        _KEY, "ssh-ed25519 AAAA...", "a public SSH key", "write the line of a .pub file, such as ssh-ed25519 AAAA..."
    ),
]
InterfaceName = Annotated[str, *_matching(_INTERFACE, "eth0", "a network interface", "write its name, such as eth0")]
KernelWord = Annotated[
    str, *_matching(_WORD, "cgroup_enable=memory", "one word of a kernel command line", "write one item for each word")
]


class CardNetwork(Part):
    """How the machine gets its address from its first boot on."""

    interface: InterfaceName = key("Its network interface.", default="eth0")
    address: InterfaceAddress | None = key(
        "Its address with the LAN's length. Absent: from DHCP.", default=None, unit="ADDRESS/LENGTH"
    )
    gateway: kinds.Address | None = key("The LAN's router, with address only.", default=None)
    nameservers: tuple[kinds.Address, ...] = key("Its DNS servers; empty: those of DHCP.", default=())
    promiscuous: StrictBool = key(
        "Whether the interface takes packets for other MAC addresses, as MetalLB may need on Wi-Fi.", default=False
    )


class Prepare(Part):
    """What the machine shall be from its first boot on."""

    hostname: kinds.Name | None = key("Its host name.", default=None, derived="the card's name")
    user: User = key("User who may log in with the keys and become root. There is no password.", default="homelab")
    keys: tuple[PublicKey, ...] = key("Public SSH keys of that user.", ["ssh-ed25519 AAAA... me@desk"])
    network: CardNetwork = key("Its address.", default_factory=CardNetwork)
    cmdline: tuple[KernelWord, ...] = key(
        "Words for the kernel's command line. The default turns on the memory cgroup, which Kubernetes needs.",
        default=("cgroup_memory=1", "cgroup_enable=memory"),
    )
    read_only_root: StrictBool = key(
        "Whether the root file system is never written and changes are lost at a reboot. Not with the data of k3s or "
        "etcd on it.",
        default=False,
    )
    boot_gib: StrictInt = key(
        "Size of the boot partition. 0, or less than the image's own: as the image has it.",
        default=0,
        ge=0,
        le=16,
        unit="GiB",
    )


class Card(Part):
    """One card: the disk that it is in, and what is written to it."""

    disk: CardDisk | None = key(
        "The disk: a name under /dev/disk/by-id or by-path; with serial, or for loop devices, any /dev/NAME; or an "
        "image file. Absent: found by its serial. `homelab cards` lists both.",
        default=None,
    )
    serial: Serial | None = key("Serial number that the disk must have.", default=None)
    min_gb: StrictInt = key("The card has at least so much.", default=1, ge=0, unit="GB")
    max_gb: StrictInt = key(
        "The card has at most so much: a card is small, the disk with the family's photos is not.", 64, ge=1, unit="GB"
    )
    image: CardImage = key(
        "Image file or URL (.img or .raw, plain or as .xz, .zst, .gz).", "images/raspios-lite.img.xz"
    )
    sha256: kinds.Sha256 | None = key(
        "Expected SHA-256 of the image file as it is published; not checked when absent.",
        default=None,
        unit="64 hex digits",
    )
    kind: CardKind = key(
        "What is on the image: talos (a metal-arm64 image, configured over the network), raspberry-pi-os (of October "
        "2025 or later) or alpine (for the Raspberry Pi).",
        "raspberry-pi-os",
    )
    prepare: Prepare | None = key(
        "What is set for the first boot; required but for talos, which has none.", default=None
    )
    generation: StrictInt = key(
        "How often this card may have been written. 0: never; 1: once; one more: erase and write it once again. "
        "Other changes wait for that.",
        default=0,
        ge=0,
        unit="count",
    )
