"""What is put onto a card's boot partition, for each kind of system that reads something there."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from types import ModuleType

from providers.disk import alpine, fat, layout, raspberry
from providers.disk.fat import Fat
from providers.disk.image import Raw
from providers.disk.table import Table
from providers.disk.target import Target
from providers.disk.wish import Wish
from providers.errors import FlashError

KINDS: dict[str, ModuleType] = {"raspberry-pi-os": raspberry, "alpine": alpine}


@dataclass(frozen=True)
class Prepared:
    """What one card gets besides its image.

    Attributes:
        files: of its boot partition, by name.
        offset: where that begins.
        head: the image's first bytes, with the card's own partitions.
        blank: places that are zeroed, so that nothing old is found in a new partition.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    offset: int = 0
    head: bytes = b""
    blank: tuple[tuple[int, int], ...] = ()

    @property
    def recipe(self) -> str:
        """A sum of the files; "" is none."""
        if not self.files:
            return ""
        digest = hashlib.sha256()
        for name, content in sorted(self.files.items()):
            digest.update(f"{name} {len(content)}\n".encode() + content)
        return digest.hexdigest()


def prepared(wish: Wish, raw: Raw, table: Table, disk_bytes: int) -> Prepared:
    """What the card gets, made from the wish and from files of the image; no card is touched.

    Raises:
        FlashError: the image is of another kind.
        RefusedError: mtools is not installed.
    """
    if wish.preparation is None or wish.kind not in KINDS:
        return Prepared(head=raw.head())
    fat.require_tools()
    kind, what = KINDS[wish.kind], str(raw.file)
    boot = layout.boot_partition(table, what)
    files = kind.files(
        wish.preparation, f"{wish.card}-{wish.generation}", Fat(raw.file, boot.start, what).read, wish.image
    )
    if not kind.SYSTEM_PARTITION:
        return Prepared(files, boot.start, raw.head())
    head, system = layout.with_system(raw.head(), table, disk_bytes)
    return Prepared(files, boot.start, head, ((system.start, 1 << 20),))


def put(prepared: Prepared, target: Target) -> None:
    """Put the files onto the card, and read them back from it.

    Raises:
        FlashError: they can't be written, or come back different.
    """
    if not prepared.files:
        return
    boot = Fat(target.disk.path, prepared.offset, target.where)
    for name, content in prepared.files.items():
        boot.write(name, content)
    target.sync()
    for name, content in prepared.files.items():
        if boot.read(name) != content:
            raise FlashError(f"{target.where}: gives back another {name} than was written; take another card")
