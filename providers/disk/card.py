"""One card from the proof that it is the right one to the note that it is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from providers import locks
from providers.deadline import Deadline
from providers.disk import fat, marker, prepare, proof, writer
from providers.disk import image as images
from providers.disk.inventory import Disk, gigabytes, probed
from providers.disk.marker import WRITING, WRITTEN, Marker
from providers.disk.prepare import Prepared
from providers.disk.table import has_gap
from providers.disk.target import Target
from providers.disk.wish import Wish
from providers.disk.writer import Source
from providers.errors import RefusedError
from providers.turingpi.image import Image, fetch
from providers.turingpi.progress import Watch, ignore

LIMIT_S = 4 * 3600.0
BUSY_LIMIT_S = 30.0  # a run that was killed has let go by then
Say = Callable[[str], None]
Open = Callable[[Disk, str], Target]


@dataclass(frozen=True)
class Written:
    """How a card came to be.

    Attributes:
        disk: the path it was written at.
        raw_sha256: of the image's bytes on it.
        adopted: it was written before, by a run that could not note it.
    """

    disk: str
    raw_sha256: str
    adopted: bool = False


def write(
    wish: Wish,
    say: Say = lambda _: None,
    watch: Watch = ignore,
    *,
    deadline: Deadline | None = None,
    seen: Sequence[Disk] | None = None,
    cache: Path | None = None,
    open_target: Open = Target,
) -> Written:
    """Write the card that the wish names, unless it holds just this write already.

    Args:
        wish: what the settings say.
        say: told the summary before the first byte, and warnings.
        watch: told how far it is.
        deadline: for all of it.
        seen: the machine's disks; looked for when left out.
        cache: where images are kept.
        open_target: opens the disk.

    Raises:
        RefusedError: it is not the right disk, is in use, or is another node's; nothing was written.
        FlashError: the image is damaged, or the card gone, broken or wrong.
        DeadlineError: it took too long.
    """
    deadline = deadline or Deadline(LIMIT_S)
    disk = proof.prove(wish, seen)
    _refuse_foreign(wish.card, disk, marker.on(disk.path))
    found = fetch(wish.image, wish.sha256 or None, watch, deadline, cache)
    boot_bytes = wish.preparation.boot_bytes if wish.preparation else 0
    if boot_bytes:
        fat.require_tools()
    with (
        images.raw(found, deadline, boot_bytes, cache) as raw,
        locks.held(f"card {disk.path}", f"writing cards.{wish.card}", Deadline(BUSY_LIMIT_S)),
    ):
        table = raw.table()
        if max(raw.size_bytes, table.end) > disk.size_bytes:
            raise RefusedError(
                f"cards.{wish.card}: {disk} is too small for the image, which has {gigabytes(raw.size_bytes)}; "
                f"take a larger card"
            )
        made = prepare.prepared(wish, raw, table, disk.size_bytes)
        noted = has_gap(table, made.head, marker.OFFSET, marker.BYTES)
        source = Source(raw.file, raw.size_bytes, raw.sha256, made.head, _blank(raw, made, disk), noted)
        with open_target(disk, wish.card) as target:
            return _written(wish, source, made, target, found, say, watch, deadline)


def _blank(raw: images.Raw, made: Prepared, disk: Disk) -> tuple[tuple[int, int], ...]:
    """Where something old could be found: a new partition, and the second table that a GPT keeps at the end."""
    end = max(raw.size_bytes, disk.size_bytes - (1 << 20))
    last = ((end, disk.size_bytes - end),) if end < disk.size_bytes else ()
    return (*made.blank, *last)


def _written(
    wish: Wish, source: Source, made: Prepared, target: Target, image: Image, say: Say, watch: Watch, deadline: Deadline
) -> Written:
    before = marker.read(target.read(marker.OFFSET, marker.BYTES))
    _refuse_foreign(wish.card, target.disk, before)
    note = Marker(wish.card, wish.generation, WRITING, image.raw_sha256, made.recipe)
    if before is not None and _is_written_already(before, note, target, say):
        return Written(target.disk.path, before.image, adopted=True)
    say(summary(wish, target.disk, image, before))
    writer.write(source, target, note, deadline, watch)
    prepare.put(made, target)
    if source.noted:
        _finish(note, target)
    else:
        say("this image leaves no room for a note; the card can't be told from others later")
    if not target.reread_table():
        say("the kernel still sees the old partitions: take the card out and put it back before you look at it")
    return Written(target.disk.path, image.raw_sha256)


def _refuse_foreign(card: str, disk: Disk, before: Marker | None) -> None:
    """Raise RefusedError when a disk holds another node's card."""
    if before is not None and before.card != card:
        give_up = f"dd if=/dev/zero of={disk.path} bs=512 seek={marker.SECTOR} count=1 conv=notrunc"
        raise RefusedError(
            f"cards.{card}: {disk} is already written as {before.card}; take the right card, or give that one up with "
            f"`{give_up}` and run this again"
        )


def _is_written_already(before: Marker, note: Marker, target: Target, say: Say) -> bool:
    """Whether the card holds this very write.

    Raises:
        RefusedError: it holds a later one.
    """
    if before.state != WRITTEN or before.generation < note.generation:
        return False
    if before.generation > note.generation:
        raise RefusedError(
            f"{target.where}: was written as generation {before.generation}; to keep it, set "
            f"cards.{note.card}.generation to {before.generation}; one more writes it again"
        )
    if (before.image, before.recipe) != (note.image, note.recipe):
        say(f"it was written as generation {before.generation} from other settings; raise generation to write it again")
    return True


def _finish(note: Marker, target: Target) -> None:
    done = replace(note, state=WRITTEN)
    target.write(marker.OFFSET, memoryview(done.block()))
    target.sync()
    if marker.read(target.read(marker.OFFSET, marker.BYTES)) != done:
        raise RefusedError(f"{target.where}: does not keep its last bytes; take another card")


def summary(wish: Wish, disk: Disk, image: Image, before: Marker | None) -> str:
    """What is about to happen, on one line."""
    holds = ", ".join(disk.holds or probed(disk.path)) or ("nothing that is known" if before is None else "")
    if before is not None:
        holds = f"{before.card}, generation {before.generation}, {before.state}" + (f"; {holds}" if holds else "")
    return (
        f"ERASING {disk}; it holds: {holds}; it gets: {wish.kind} as {wish.card}, generation {wish.generation}, "
        f"{gigabytes(image.raw_bytes)} from {wish.image} (sha256 {image.sha256[:16]}...)"
    )
