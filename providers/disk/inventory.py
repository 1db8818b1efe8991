"""Which disks this machine has, and all that tells one from another: what `lsblk` says, and sysfs where it is silent.

Without udev `lsblk` gives null for serial, transport and file system. Null is "not known" here, never "empty".
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from providers.errors import ProtocolError, RefusedError

COLUMNS = "NAME,PATH,TYPE,SIZE,RO,RM,HOTPLUG,TRAN,SERIAL,MODEL,LABEL,FSTYPE,MOUNTPOINTS,MAJ:MIN"
LINKS = ("/dev/disk/by-id", "/dev/disk/by-path")
SYSTEM_MOUNTS = ("/", "/boot", "/boot/efi", "/boot/firmware", "/home", "/usr", "/var", "[SWAP]")
_LIMIT_S = 30


class Kind(Enum):
    """What an image can be written to, and what it can't."""

    DISK = "disk"
    LOOP = "loop"
    FILE = "file"
    OTHER = "other"


@dataclass(frozen=True)
class Disk:
    """One disk, loop device or image file, as it was seen at one moment.

    Attributes:
        path: of its device node, or of the file.
        kind: what it is.
        number: `major:minor`; of a file, its own `device:inode`.
        size_bytes: 0 is a reader without a card.
        read_only: as the kernel says, a card's lock switch included.
        removable: whether the kernel calls it removable, or can lose it while it runs.
        transport: usb, mmc, nvme, sata; "" is unknown.
        serial: of the reader for USB, of the card for mmc; "" is unknown.
        model: "" is unknown.
        links: its names that stay, from /dev/disk/by-id and by-path.
        mounts: where it or something on it is mounted; `[SWAP]` is one.
        holders: what else of the kernel is built on it: LVM, RAID, encryption.
        holds: what is on it, a few words a partition.
        runs_system: whether this machine runs from it.
    """

    path: str
    kind: Kind
    number: str
    size_bytes: int
    read_only: bool = False
    removable: bool = False
    transport: str = ""
    serial: str = ""
    model: str = ""
    links: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    holders: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()
    runs_system: bool = False

    def __str__(self) -> str:
        """`/dev/sdb, 31.9 GB, SD_Card_Reader, serial 0123`."""
        parts = [self.path, gigabytes(self.size_bytes), self.model, f"serial {self.serial}" if self.serial else ""]
        return ", ".join(part for part in parts if part)


def gigabytes(size_bytes: int) -> str:
    """A size as it is printed on a card."""
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.0f} MB"


@dataclass(frozen=True)
class Machine:
    """Where a machine keeps what it knows of its disks; tests give folders of their own."""

    sysfs: Path = Path("/sys")
    links: tuple[str, ...] = LINKS
    system_numbers: frozenset[str] | None = None

    def running_from(self) -> frozenset[str]:
        """The numbers of the devices under the running system, also where `lsblk` sees no mount (containers)."""
        if self.system_numbers is not None:
            return self.system_numbers
        return frozenset(_number(Path(path).stat().st_dev) for path in ("/", "/boot", "/usr") if Path(path).exists())


def disks(machine: Machine | None = None) -> tuple[Disk, ...]:
    """All disks and loop devices of this machine.

    Raises:
        RefusedError: there is no lsblk.
        ProtocolError: it answered with something else than its JSON.
    """
    return parsed(_lsblk(), machine or Machine())


def image_file(path: Path) -> Disk | None:
    """A plain file that plays a card, or None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    writable = os.access(path, os.W_OK)
    number = f"{_number(found.st_dev)}:{found.st_ino}"
    return Disk(str(path.resolve()), Kind.FILE, number, found.st_size, read_only=not writable, removable=True)


def parsed(text: str, machine: Machine) -> tuple[Disk, ...]:
    """The disks in `lsblk`'s JSON, completed from sysfs.

    Raises:
        ProtocolError: it is not that JSON.
    """
    try:
        found = json.loads(text)["blockdevices"]
        links, system = _links(machine), machine.running_from()
        return tuple(_disk(item, machine, links, system) for item in found)
    except (ValueError, KeyError, TypeError) as error:
        raise ProtocolError(
            f"lsblk: its answer makes no sense ({error!r}); util-linux 2.33 or later is needed"
        ) from None


def probed(path: str) -> tuple[str, ...]:
    """What is on a disk as `blkid` reads it there itself: without udev `lsblk` knows nothing of it."""
    command = ["blkid", "--probe", "--output", "export", path]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return ()
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    table = f"{found['PTTYPE']} partition table" if "PTTYPE" in found else ""
    words = " ".join(found[key] for key in ("TYPE", "LABEL") if key in found)
    return tuple(text for text in (table, words) if text)


def _lsblk() -> str:
    command = ["lsblk", "--json", "--bytes", "--all", "--output", COLUMNS]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    except FileNotFoundError:
        raise RefusedError("lsblk: not found on this machine; install the package util-linux") from None
    except subprocess.TimeoutExpired:
        raise RefusedError(f"lsblk: no answer within {_LIMIT_S} s; a card reader may hang: unplug it") from None
    if not done.stdout.strip():
        raise ProtocolError(f"lsblk: no answer ({done.stderr.strip()})")
    return done.stdout


def _disk(
    item: Mapping[str, Any], machine: Machine, links: Mapping[str, tuple[str, ...]], system: frozenset[str]
) -> Disk:
    name, number = str(item["name"]), str(item["maj:min"])
    family = list(_family(item))
    block = machine.sysfs / "block" / name
    mounts = tuple(sorted({mount for one in family for mount in _mounts(one)}))
    held = {holder for folder in (block, *block.glob(f"{name}*")) for holder in _names(folder / "holders")}
    kind = _kind(item, name)
    transport = str(item.get("tran") or _transport(block))
    return Disk(
        path=str(item["path"]),
        kind=kind,
        number=number,
        size_bytes=int(item["size"] or 0),
        read_only=_true(item["ro"]),
        removable=_true(item["rm"]) or _true(item.get("hotplug")) or kind is Kind.LOOP or transport in ("usb", "mmc"),
        transport=transport,
        serial=str(item.get("serial") or _text(block / "device" / "serial")).strip(),
        model=str(item.get("model") or _text(block / "device" / "model") or _text(block / "device" / "name")).strip(),
        links=links.get(str(Path(str(item["path"])).resolve()), ()),
        mounts=mounts,
        holders=tuple(sorted(held)),
        holds=tuple(_holds(item)),
        runs_system=any(str(one["maj:min"]) in system for one in family) or any(m in SYSTEM_MOUNTS for m in mounts),
    )


def _kind(item: Mapping[str, Any], name: str) -> Kind:
    if item["type"] == "loop":
        return Kind.LOOP
    # zram and md call themselves disks too.
    return Kind.DISK if item["type"] == "disk" and not name.startswith(("zram", "md", "dm-", "ram")) else Kind.OTHER


def _family(item: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield item
    for child in item.get("children") or ():
        yield from _family(child)


def _mounts(item: Mapping[str, Any]) -> Iterable[str]:
    return (mount for mount in item.get("mountpoints") or () if mount)


def _holds(item: Mapping[str, Any]) -> Iterator[str]:
    for one in _family(item):
        words = [str(word) for word in (one.get("fstype"), one.get("label")) if word]
        if words:
            yield f"{one['name']}: {' '.join(words)}"


def _true(value: object) -> bool:
    return value in (True, "1", 1)  # very old util-linux prints texts


def _transport(block: Path) -> str:
    """What the disk hangs on, read from where sysfs keeps it."""
    parts = block.resolve().parts
    known = {"usb": "usb", "mmc_host": "mmc", "nvme": "nvme", "ata": "sata", "virtio": "virtio"}
    return next((word for sign, word in known.items() if any(part.startswith(sign) for part in parts)), "")


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError:
        return []


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _links(machine: Machine) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for folder in machine.links:
        for name in _names(Path(folder)):
            target = str((Path(folder) / name).resolve())
            found[target] = (*found.get(target, ()), f"{folder}/{name}")
    return found


def _number(device: int) -> str:
    return f"{os.major(device)}:{os.minor(device)}"
