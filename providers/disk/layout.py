"""Other partitions than the image has: a larger boot partition, and one more over the rest of the card.

Only MBR tables are changed; the images of Raspberry Pi OS and Alpine have them. A table names its root by signature
and number, so a root that was moved is found.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from providers.disk.fat import Fat
from providers.disk.table import Partition, Table, aligned, with_entry
from providers.errors import FlashError

LINUX = 0x83
_FAT32 = 0x0C
_CHUNK_BYTES = 4 << 20


def boot_partition(table: Table, what: str) -> Partition:
    """The first partition, which holds what the board's firmware reads.

    Raises:
        FlashError: it is no FAT of an MBR table.
    """
    first = table.partitions[0]
    if table.label != "dos" or not first.is_fat:
        raise FlashError(
            f"{what}: its first partition is no FAT, so it is no image for a Raspberry Pi; look at its URL"
        )
    return first


def must_grow(table: Table, boot_bytes: int) -> bool:
    """Whether the boot partition is smaller than wished."""
    return table.partitions[0].size < boot_bytes


def grow_boot(image: Path, head: bytes, table: Table, boot_bytes: int, out: Path) -> None:
    """Write the image anew with a larger boot partition; what stood behind it moves.

    Raises:
        FlashError: the image has another layout than boot and at most one root behind it.
    """
    boot = boot_partition(table, str(image))
    if len(table.partitions) > 2:
        raise FlashError(f"{image}: has {len(table.partitions)} partitions; its boot partition can't be made larger")
    grown = Partition(boot.start, boot_bytes, _FAT32)
    head = with_entry(head, 0, grown)
    size = grown.end
    with image.open("rb") as source, out.open("wb") as made:
        for root in table.partitions[1:]:
            moved = replace(root, start=aligned(grown.end))
            head = with_entry(head, 1, moved)
            size = moved.end
            _copy(source, root, made, moved)
        made.truncate(size)
        made.seek(0)
        made.write(head[: boot.start])
    new = Fat(out, grown.start, str(image))
    new.format(grown, "bootfs")
    Fat(image, boot.start, str(image)).copy_to(new)


def with_system(head: bytes, table: Table, disk_bytes: int) -> tuple[bytes, Partition]:
    """The head with a second partition over the rest of the card, and that partition.

    Raises:
        FlashError: there is no place for it.
    """
    boot = table.partitions[0]
    start = aligned(boot.end)
    size = (disk_bytes - start) // (1 << 20) * (1 << 20)
    if len(table.partitions) != 1 or size < MIN_SYSTEM_BYTES:
        raise FlashError(
            f"the image has {len(table.partitions)} partitions and leaves {max(size, 0) / 1e9:.1f} GB of the card; a "
            f"system disk needs one partition before it and {MIN_SYSTEM_BYTES / 1e9:.1f} GB: take a larger card"
        )
    system = Partition(start, size, LINUX)
    return with_entry(head, 1, system), system


MIN_SYSTEM_BYTES = 512 << 20


def _copy(source: BinaryIO, old: Partition, made: BinaryIO, new: Partition) -> None:
    source.seek(old.start)
    made.seek(new.start)
    left, blank = old.size, bytes(_CHUNK_BYTES)
    while left:
        chunk = source.read(min(_CHUNK_BYTES, left))
        if not chunk:
            raise FlashError("the image is cut off; remove it and download it again")
        if chunk == blank:
            made.seek(len(chunk), 1)
        else:
            made.write(chunk)
        left -= len(chunk)
