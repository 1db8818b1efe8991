"""Writing an image's bytes to a card, and reading every one of them back.

The order makes half a card recognisable: a head without partition table but with the note "writing", the body, the
head; then everything is read back. Only then is the note "written".
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from providers.deadline import Deadline
from providers.disk import marker
from providers.disk.marker import Marker
from providers.disk.target import ALIGNMENT, Target, buffer
from providers.errors import DeadlineError, FlashError
from providers.turingpi.progress import Meter, Phase, Watch, ignore

CHUNK_BYTES = 4 << 20


@dataclass(frozen=True)
class Source:
    """What is written.

    Attributes:
        file: the raw image.
        size_bytes: of it.
        sha256: of its bytes.
        head: its first HEAD_BYTES as they are to stand on the card, without the note.
        blank: places beyond the image (offset, size) that are zeroed, so that nothing old is found there.
        noted: whether the head has room for the note.
    """

    file: Path
    size_bytes: int
    sha256: str
    head: bytes
    blank: tuple[tuple[int, int], ...] = ()
    noted: bool = True


def with_note(head: bytes, note: Marker) -> bytes:
    """A head with the note in its place."""
    return head[: marker.OFFSET] + note.block() + head[marker.OFFSET + marker.BYTES :]


def write(source: Source, target: Target, note: Marker, deadline: Deadline, watch: Watch = ignore) -> None:
    """Write the image and verify it; the note on the card stays "writing".

    Raises:
        FlashError: the card is gone or broken, gives back other bytes, or the image changed meanwhile.
        RefusedError: an image file has no room.
        DeadlineError: the deadline passed; the card holds half an image.
    """
    head = with_note(source.head, note) if source.noted else source.head
    _put(target, 0, with_note(bytes(len(head)), note))
    target.sync()  # the note is there before the first byte of the image
    for offset, size in source.blank:
        _put(target, offset, bytes(size))
    _body(source, target, deadline, watch)
    target.sync()
    _put(target, 0, head)
    target.sync()
    verify(source, target, head, deadline, watch)


def verify(source: Source, target: Target, head: bytes, deadline: Deadline, watch: Watch = ignore) -> None:
    """Read the image back and compare it.

    Raises:
        FlashError: the card gives other bytes.
        DeadlineError: the deadline passed.
    """
    if target.read(0, len(head)) != head:
        raise FlashError(_bad(target, "in the partition table"))
    with source.file.open("rb") as file:
        digest = hashlib.sha256(file.read(len(head)))  # a head may be changed on purpose; it was compared byte by byte
    meter, chunk = Meter(watch, Phase.VERIFYING, source.size_bytes, time.monotonic), buffer(CHUNK_BYTES)
    for offset, size in _pieces(len(head), source.size_bytes):
        _in_time(deadline, target, "read back")
        target.read_into(offset, chunk[:size])
        digest.update(chunk[:size])
        meter.at(offset + size)
    if digest.hexdigest() != source.sha256:
        raise FlashError(_bad(target, "than were written"))


def _bad(target: Target, where: str) -> str:
    fix = "the card is worn out or smaller than it says: take another one"
    return f"{target.where}: gives back other bytes {where}; {fix}"


def _body(source: Source, target: Target, deadline: Deadline, watch: Watch) -> None:
    meter, chunk = Meter(watch, Phase.WRITING, source.size_bytes, time.monotonic), buffer(CHUNK_BYTES)
    with source.file.open("rb", buffering=0) as file:
        for offset, size in _pieces(min(len(source.head), source.size_bytes), source.size_bytes):
            _in_time(deadline, target, "written")
            _fill(file, offset, chunk[:size], source.file)
            target.write(offset, chunk[:size])
            meter.at(offset + size)


def _pieces(start: int, end: int) -> Iterator[tuple[int, int]]:
    """The pieces of a stretch: whole chunks, then whole pages, then what is left."""
    while start < end:
        size = min(CHUNK_BYTES, end - start)
        size = size - size % ALIGNMENT or size
        yield start, size
        start += size


def _fill(file: BinaryIO, offset: int, chunk: memoryview, path: Path) -> None:
    file.seek(offset)
    done = 0
    while done < len(chunk):
        got = file.readinto(chunk[done:])  # type: ignore[attr-defined]  # an unbuffered file has it
        if not got:
            raise FlashError(f"{path}: is shorter than when it was measured; remove it and run this again")
        done += got


def _put(target: Target, offset: int, data: bytes) -> None:
    room = max(0, min(len(data), target.disk.size_bytes - offset))
    chunk = buffer(len(data))
    chunk[:] = data
    target.write(offset, chunk[:room])


def _in_time(deadline: Deadline, target: Target, what: str) -> None:
    if deadline.expired:
        raise DeadlineError(f"{target.where}: not {what} within {deadline.seconds:.0f} s; run this again")
