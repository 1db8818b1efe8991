"""A disk or image file, opened for this process alone, as a place for bytes.

The kernel is the last guard: a disk that is mounted or held by anything is busy for an exclusive open, whatever was
seen before. udev leaves a disk alone whose lock is held.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

from providers.deadline import Deadline
from providers.disk.inventory import Disk, Kind
from providers.errors import FlashError, HomelabError, RefusedError

ALIGNMENT = 4096
DIRECT_BYTES = 1 << 16  # smaller pieces go through the cache: a note, a table
REREAD_LIMIT_S = 5.0
_BLKRRPART, _BLKFLSBUF, _BLKGETSIZE64 = 0x125F, 0x1261, 0x80081272
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_GONE = (errno.ENODEV, errno.ENXIO, errno.ENOMEDIUM, errno.EIO, errno.ESTALE)


class Target:
    """An open disk. Use it as a context manager.

    Args:
        disk: as it was seen; it must be the same one when it is open.
        card: the card's name, for messages.

    Raises:
        RefusedError: another program has it, this user may not, or it is not the disk that was seen.
    """

    def __init__(self, disk: Disk, card: str) -> None:
        self.disk = disk
        self._where = f"cards.{card} ({disk.path})"
        self._is_file = disk.kind is Kind.FILE
        self._fd = self._opened()
        try:
            self._claim()
            self._check_same()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """The open disk."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    @property
    def where(self) -> str:
        """The subject of messages."""
        return self._where

    def close(self) -> None:
        """Let the disk go; to be called more than once."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def write(self, offset: int, data: memoryview) -> None:
        """Put bytes at an offset. The buffer's and the offset's alignment decide whether caches are passed by.

        Raises:
            FlashError: the card is gone or broken.
            RefusedError: there is no room behind an image file.
        """
        with self._mapped("writing", offset), self._direct(offset, len(data)):
            done = 0
            while done < len(data):
                done += os.pwrite(self._fd, data[done:], offset + done)

    def read_into(self, offset: int, chunk: memoryview) -> None:
        """Fill a piece of memory from an offset.

        Raises:
            FlashError: the card is gone or broken, or ends before.
        """
        with self._mapped("reading", offset), self._direct(offset, len(chunk)):
            done = 0
            while done < len(chunk):
                got = os.preadv(self._fd, [chunk[done:]], offset + done)
                if not got:
                    raise FlashError(
                        f"{self._where}: ends at byte {offset + done}; the card is gone or not what it says"
                    )
                done += got

    def read(self, offset: int, size: int) -> bytes:
        """A few bytes."""
        chunk = buffer(size)
        self.read_into(offset, chunk)
        return bytes(chunk)

    def sync(self) -> None:
        """See every byte on the medium, and forget what is cached of it, so that it is read from there."""
        with self._mapped("writing", 0):
            os.fsync(self._fd)
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
            if not self._is_file:
                with suppress(PermissionError):  # only root may; what is read directly does not need it
                    fcntl.ioctl(self._fd, _BLKFLSBUF)

    def reread_table(self, deadline: Deadline | None = None) -> bool:
        """Have the kernel look at the new partitions; False when something kept the old ones busy."""
        if self._is_file:
            return True
        deadline = deadline or Deadline(REREAD_LIMIT_S)
        while True:
            try:
                fcntl.ioctl(self._fd, _BLKRRPART)
                return True
            except OSError as error:
                if error.errno != errno.EBUSY:
                    return error.errno in (errno.EINVAL, errno.ENOTTY)  # a device that has no partitions
                if deadline.expired:
                    return False
                deadline.sleep(0.2)

    def _opened(self) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC | (0 if self._is_file else os.O_EXCL)
        try:
            return os.open(self.disk.path, flags)
        except OSError as error:
            raise self._refusal(error) from error

    def _refusal(self, error: OSError) -> RefusedError:
        fixes = {
            errno.EBUSY: "another program or mount holds it; close that (`lsof` names it) and run this again",
            errno.EACCES: "this user may not; run this as root or as a member of the disk's group",
            errno.EPERM: "this user may not; run this as root or as a member of the disk's group",
            errno.EROFS: "it can only be read; look at the card's lock switch",
            errno.ENOMEDIUM: "no card is in the reader",
            errno.ENOENT: "it is gone; put the card back and run this again",
        }
        return RefusedError(f"{self._where}: can't be opened: {fixes.get(error.errno or 0, str(error))}")

    def _claim(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RefusedError(
                f"{self._where}: another program holds its lock; end that one and run this again"
            ) from None

    def _check_same(self) -> None:
        """What was opened is what was seen: names of devices are given anew when a reader is plugged in again."""
        found = os.fstat(self._fd)
        if self._is_file:
            same = stat.S_ISREG(found.st_mode) and found.st_size == self.disk.size_bytes
        else:
            number = f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
            size = struct.unpack("<Q", fcntl.ioctl(self._fd, _BLKGETSIZE64, b"\0" * 8))[0]
            same = number == self.disk.number and size == self.disk.size_bytes
        if not same:
            raise RefusedError(f"{self._where}: is another disk than a moment ago; run this again")

    @contextmanager
    def _direct(self, offset: int, size: int) -> Iterator[None]:
        """Pass the caches by where the alignment allows: six cards would fill them, and a read-back must miss them."""
        wanted = offset % ALIGNMENT == 0 and size % ALIGNMENT == 0 and size >= DIRECT_BYTES
        if not wanted or not self._set_direct(on=True):
            yield
            return
        try:
            yield
        finally:
            self._set_direct(on=False)

    def _set_direct(self, *, on: bool) -> bool:
        flags = fcntl.fcntl(self._fd, fcntl.F_GETFL)
        try:
            fcntl.fcntl(self._fd, fcntl.F_SETFL, flags | os.O_DIRECT if on else flags & ~os.O_DIRECT)
        except OSError:
            return False  # a file system without it
        return True

    @contextmanager
    def _mapped(self, what: str, offset: int) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._fault(error, what, offset) from error

    def _fault(self, error: OSError, what: str, offset: int) -> HomelabError:
        at = f"{self._where}: {what} failed at {offset / 1e6:.0f} MB"
        if error.errno in _NO_ROOM and self._is_file:
            return RefusedError(f"{at}: no space is left behind this image file; make room and run this again")
        if error.errno in _NO_ROOM:
            return FlashError(f"{at}: its medium ends there; the card is smaller than it says: take another one")
        if error.errno in _GONE:
            return FlashError(
                f"{at} ({error.strerror}): the card was pulled, its reader hangs, or it is broken; put it back and run "
                f"this again, it is written from the start"
            )
        return FlashError(f"{at} ({error.strerror}); run this again, or try another card")


def buffer(size: int) -> memoryview:
    """Memory that can be written directly: whole pages, not Python's own."""
    return memoryview(mmap.mmap(-1, size))
