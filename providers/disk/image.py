"""The raw bytes of an image as one file that many cards are written from at the same time.

An image is unpacked once however many cards want it: six threads that unpack xz would be slower than the cards. The
unpacked file is kept as long as somebody writes from it, in this run or another one.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from providers.deadline import Deadline
from providers.disk import layout
from providers.disk.table import HEAD_BYTES, Table, check_whole, read
from providers.errors import DeadlineError, FlashError, RefusedError
from providers.turingpi.image import Image, cache_folder
from providers.turingpi.unpack import raw_chunks, sha256_of

_INTERVAL_S = 0.1
_Make = Callable[[Path], str]


@dataclass(frozen=True)
class Raw:
    """An unpacked image.

    Attributes:
        file: where it is.
        size_bytes: of it.
        sha256: of its bytes.
    """

    file: Path
    size_bytes: int
    sha256: str

    def head(self) -> bytes:
        """Its first bytes: the partition table, and the gap behind it."""
        with self.file.open("rb") as file:
            return file.read(HEAD_BYTES)

    def table(self) -> Table:
        """Its partition table.

        Raises:
            FlashError: it has none, is cut off, or is too small for one.
        """
        if self.size_bytes < HEAD_BYTES:
            raise FlashError(f"{self.file}: has {self.size_bytes} bytes, too few for an image of a card")
        found = read(self.head(), str(self.file))
        check_whole(found, self.size_bytes, str(self.file))
        return found


@contextmanager
def raw(image: Image, deadline: Deadline, boot_bytes: int = 0, cache: Path | None = None) -> Iterator[Raw]:
    """The image unpacked, with a boot partition of at least `boot_bytes`, while the body runs.

    Raises:
        FlashError: the image is damaged or cut off, or can't be given such a partition.
        RefusedError: the cache has no room for it.
        DeadlineError: another run unpacks it and does not end.
    """
    folder = cache or cache_folder()
    with _unpacked(image, folder, deadline) as plain:
        found = plain.table()
        if not layout.must_grow(found, boot_bytes):
            yield plain
            return
        name = f"{image.raw_sha256[:32]}-boot{boot_bytes}"
        with _shared(folder / name, lambda file: _grown(plain, found, boot_bytes, file), deadline) as made:
            yield made


@contextmanager
def _unpacked(image: Image, folder: Path, deadline: Deadline) -> Iterator[Raw]:
    if image.sha256 == image.raw_sha256:
        yield Raw(image.path, image.raw_bytes, image.raw_sha256)
        return
    with _shared(folder / f"{image.raw_sha256[:32]}-raw", lambda file: _unpack(image, file), deadline) as made:
        yield made


def _unpack(image: Image, file: Path) -> str:
    digest, blank = hashlib.sha256(), bytes(1 << 20)
    with file.open("wb") as out:
        for chunk in raw_chunks(image.path):
            digest.update(chunk)
            if chunk == blank:
                out.seek(len(chunk), 1)  # a hole: most of an image is empty
            else:
                out.write(chunk)
        out.truncate(image.raw_bytes)
    if digest.hexdigest() != image.raw_sha256:
        raise FlashError(f"{image.path}: has changed since it was measured; remove it and run this again")
    return image.raw_sha256


def _grown(plain: Raw, table: Table, boot_bytes: int, file: Path) -> str:
    layout.grow_boot(plain.file, plain.head(), table, boot_bytes, file)
    return sha256_of(file)


@contextmanager
def _shared(path: Path, make: _Make, deadline: Deadline) -> Iterator[Raw]:
    """A file that the first one makes, all use, and the last one removes.

    Whoever uses it holds its lock together with others, whoever makes or removes it holds it alone; the kernel lets
    go of a killed run's.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".use").open("a") as lock:
        _make_once(path, make, lock, deadline)
        try:
            yield Raw(path, path.stat().st_size, str(json.loads(_note(path).read_text(encoding="utf-8"))["sha256"]))
        finally:
            if _locked(lock, fcntl.LOCK_EX):
                path.unlink(missing_ok=True)
                _note(path).unlink(missing_ok=True)


def _make_once(path: Path, make: _Make, lock: IO[str], deadline: Deadline) -> None:
    while True:
        if _locked(lock, fcntl.LOCK_SH) and _note(path).exists():
            return
        if _locked(lock, fcntl.LOCK_EX):
            if not _note(path).exists():
                _made(path, make)
            continue  # the lock is shared from now on, unless somebody removed the file in between
        if deadline.expired:
            raise DeadlineError(f"{path}: another run did not unpack this image within {deadline.seconds:.0f} s")
        deadline.sleep(_INTERVAL_S)


def _made(path: Path, make: _Make) -> None:
    try:
        sha256 = make(path)
        _note(path).write_text(json.dumps({"sha256": sha256}), encoding="utf-8")
    except OSError as error:
        path.unlink(missing_ok=True)
        raise RefusedError(
            f"{path.parent}: the image can't be unpacked there ({error}); make room, or set HOMELAB_CACHE to another "
            f"folder"
        ) from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _note(path: Path) -> Path:
    """Beside the file, written after it: without it the file is half made."""
    return path.with_suffix(".made")


def _locked(lock: IO[str], how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
