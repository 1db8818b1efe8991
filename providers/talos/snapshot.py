"""Writing an etcd snapshot: a bolt database (whole pages) with the SHA-256 of it at its end."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from providers.errors import ProtocolError, UserError

_SECTOR = 512
_DIGEST = 32


@contextmanager
def writing(path: Path, source: str) -> Iterator[Callable[[bytes], object]]:
    """Take chunks; at the end verify the whole and give it its name.

    Args:
        path: where the snapshot goes, mode 0600; what was there stays until the new one is whole.
        source: who it comes from, for messages.

    Raises:
        ProtocolError: it is cut short or damaged.
        UserError: the file can't be written.
    """
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    try:
        with open(part, "xb", opener=_private) as file:
            yield lambda chunk: _write(file, chunk)
            with _disk_errors(file.name):
                file.flush()
                os.fsync(file.fileno())
        _verify(part, source)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _write(file: BinaryIO, chunk: bytes) -> None:
    with _disk_errors(file.name):
        file.write(chunk)


@contextmanager
def _disk_errors(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # inside a call it would look like a broken connection
        raise UserError(f"{name}: can't be written: {error.strerror}") from None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _verify(path: Path, source: str) -> None:
    size = path.stat().st_size
    if size <= _DIGEST or size % _SECTOR != _DIGEST:
        raise ProtocolError(f"{source}: etcd snapshot is cut short ({size} bytes)")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        left = size - _DIGEST
        while left:
            chunk = file.read(min(left, 1 << 20))
            digest.update(chunk)
            left -= len(chunk)
        if digest.digest() != file.read():
            raise ProtocolError(f"{source}: etcd snapshot is damaged: its checksum doesn't fit")
