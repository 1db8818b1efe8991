"""The proof that a disk is the one that the settings name, and that nobody misses what is on it.

`refusals` is a pure function from what was seen to reasons; whoever writes asks it, and asks the kernel again by
opening the disk for itself alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from providers.disk import inventory
from providers.disk.inventory import Disk, Kind, gigabytes
from providers.disk.wish import Wish
from providers.errors import RefusedError

CARD_TRANSPORTS = ("usb", "mmc")


def prove(wish: Wish, seen: Sequence[Disk] | None = None) -> Disk:
    """The one disk that the wish names, if it may be written.

    Args:
        wish: what the settings say.
        seen: the machine's disks; looked for when left out.

    Raises:
        RefusedError: it is not there, not the only one, or must not be written; all reasons at once.
    """
    disk = find(wish, inventory.disks() if seen is None else seen)
    reasons = refusals(wish, disk)
    if reasons:
        raise RefusedError(f"cards.{wish.card}: {disk} is not written: {'; '.join(reasons)}")
    return disk


def find(wish: Wish, seen: Sequence[Disk]) -> Disk:
    """The disk that the wish names.

    Raises:
        RefusedError: there is none, or more than one.
    """
    if not wish.disk:
        return _by_serial(wish, seen)
    real = str(Path(wish.disk).expanduser().resolve())
    found = next((disk for disk in seen if disk.path == real), None) or inventory.image_file(Path(real))
    if found is None:
        raise RefusedError(
            f"cards.{wish.card}: there is no disk {wish.disk} on this machine; put the card into its reader "
            f"(`homelab cards` shows what is there), or set its generation to 0 if the card is in use already"
        )
    return found


def _by_serial(wish: Wish, seen: Sequence[Disk]) -> Disk:
    found = [disk for disk in seen if disk.serial == wish.serial and disk.size_bytes]
    if len(found) == 1:
        return found[0]
    said = "no disk has" if not found else f"{' and '.join(disk.path for disk in found)} have"
    fix = "put the card into its reader" if not found else f"name one by cards.{wish.card}.disk, by its path"
    raise RefusedError(
        f"cards.{wish.card}: {said} the serial {wish.serial}; {fix} (`homelab cards` shows what is there)"
    )


def refusals(wish: Wish, disk: Disk) -> list[str]:
    """Why a disk must not be written, every reason with what to do; empty is none."""
    return [*_identity(wish, disk), *_use(disk), *_size(wish, disk)]


def _identity(wish: Wish, disk: Disk) -> list[str]:
    reasons = []
    if disk.kind is Kind.OTHER:
        reasons.append("it is no whole disk; name the disk, not a part of it")
    if disk.kind is Kind.DISK and not disk.removable:
        reasons.append("it is not removable, so it is no card")
    if disk.kind is Kind.DISK and disk.transport not in CARD_TRANSPORTS:
        hangs = f"hangs on {disk.transport}" if disk.transport else "hangs on nobody knows what"
        reasons.append(f"it {hangs}, and cards are written on {' or '.join(CARD_TRANSPORTS)}")
    if wish.serial and disk.serial != wish.serial:
        reasons.append(
            f"its serial is {disk.serial or 'unknown'}, and the settings say {wish.serial}; correct the wrong one"
        )
    return reasons


def _use(disk: Disk) -> list[str]:
    reasons = []
    if disk.runs_system:
        reasons.append("this machine runs from it")
    mounted = [mount for mount in disk.mounts if not disk.runs_system]
    if mounted:
        reasons.append(f"it is mounted; type: umount {' '.join(mounted)}")
    if disk.holders:
        reasons.append(f"{', '.join(disk.holders)} is built on it; take that down first")
    if disk.read_only:
        reasons.append("it can only be read; look at the card's lock switch, and at your rights")
    return reasons


def _size(wish: Wish, disk: Disk) -> list[str]:
    if not disk.size_bytes:
        return ["no card is in the reader"]
    if not wish.min_bytes <= disk.size_bytes <= wish.max_bytes:
        bounds = f"{gigabytes(wish.min_bytes)} to {gigabytes(wish.max_bytes)}"
        found = f"it has {gigabytes(disk.size_bytes)}, and the settings say {bounds}"
        return [f"{found}: it is another card, or cards.{wish.card}.min_gb and max_gb are wrong"]
    return []
