"""The partition table of an image, MBR or GPT, as far as writing a card needs it. Offsets and sizes are bytes."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from providers.errors import FlashError

SECTOR = 512
HEAD_BYTES = 1 << 20
"""The table, its gap and the marker: what is written last, so that half a card never boots."""

_FAT_TYPES = (0x04, 0x06, 0x0B, 0x0C, 0x0E)
_GPT_TYPE = 0xEE
_ENTRIES = 446
_ALIGNMENT = 4 << 20  # of an erase block, as the images have it


@dataclass(frozen=True)
class Partition:
    """One partition.

    Attributes:
        start: its first byte on the disk.
        size: its bytes.
        type: of an MBR entry; 0 in a GPT.
    """

    start: int
    size: int
    type: int = 0

    @property
    def end(self) -> int:
        """The byte after it."""
        return self.start + self.size

    @property
    def is_fat(self) -> bool:
        """Whether the table says that it holds a FAT."""
        return self.type in _FAT_TYPES


@dataclass(frozen=True)
class Table:
    """A partition table; `label` is dos or gpt."""

    label: str
    partitions: tuple[Partition, ...]

    @property
    def end(self) -> int:
        """The byte after the last partition."""
        return max(partition.end for partition in self.partitions)


def read(head: bytes, what: str) -> Table:
    """The table in the first bytes of an image.

    Raises:
        FlashError: there is none.
    """
    if len(head) < 2 * SECTOR or head[510:512] != b"\x55\xaa":
        raise FlashError(f"{what}: has no partition table, so it is no image of a card; look at its URL")
    entries = [_entry(head, index) for index in range(4)]
    label = "gpt" if any(entry and entry.type == _GPT_TYPE for entry in entries) else "dos"
    found = _gpt(head) if label == "gpt" else [entry for entry in entries if entry]
    if not found:
        raise FlashError(f"{what}: its partition table is empty, so it is no image of a card; look at its URL")
    return Table(label, tuple(found))


def check_whole(table: Table, image_bytes: int, what: str) -> None:
    """Refuse an image that ends before its last partition does.

    Raises:
        FlashError: it is cut off.
    """
    if table.end > image_bytes:
        raise FlashError(
            f"{what}: is cut off: its partitions end at byte {table.end}, and it has {image_bytes}; "
            f"remove it and download it again"
        )


def has_gap(table: Table, head: bytes, start: int, size: int) -> bool:
    """Whether nothing of the image is in a place of the head."""
    before = all(partition.start >= start + size for partition in table.partitions)
    return before and not any(head[start : start + size])


def aligned(position: int) -> int:
    """The next good start of a partition."""
    return -(-position // _ALIGNMENT) * _ALIGNMENT


def with_entry(head: bytes, index: int, partition: Partition) -> bytes:
    """The head with one MBR entry set; everything else, the disk's signature too, stays.

    A root that is named by its PARTUUID is found after its partition has moved: that is signature and number.
    """
    at = _ENTRIES + 16 * index
    bootable = head[at]
    # Cylinders can't say such sizes; these are the numbers that mean "look at the sectors".
    entry = struct.pack(
        "<B3sB3sII",
        bootable, b"\xfe\xff\xff", partition.type, b"\xfe\xff\xff", partition.start // SECTOR, partition.size // SECTOR,
    )  # fmt: skip
    return head[:at] + entry + head[at + 16 :]


def _entry(head: bytes, index: int) -> Partition | None:
    at = _ENTRIES + 16 * index
    kind = head[at + 4]
    start, sectors = struct.unpack_from("<II", head, at + 8)
    return Partition(start * SECTOR, sectors * SECTOR, kind) if kind and sectors else None


def _gpt(head: bytes) -> list[Partition]:
    if head[SECTOR : SECTOR + 8] != b"EFI PART":
        return []
    array, count, size = struct.unpack_from("<QII", head, SECTOR + 72)
    found = []
    for index in range(min(count, 128)):
        at = array * SECTOR + index * size
        if at + 48 > len(head) or not any(head[at : at + 16]):
            continue
        first, last = struct.unpack_from("<QQ", head, at + 32)
        found.append(Partition(first * SECTOR, (last - first + 1) * SECTOR))
    return found
