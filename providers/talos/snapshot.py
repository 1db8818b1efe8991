"""An etcd snapshot: a bolt database (whole pages) with the SHA-256 of it at its end. Written, verified and read.

Nothing but the standard library: the nightly backup's pod runs this very file.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from providers.errors import ProtocolError, UserError
from providers.talos.bolt import Bolt
from providers.talos.fields import fields

_SECTOR = 512
_DIGEST = 32
_REVISION = 8  # bytes of a row's revision; a deletion's row ends in "t" after 17 bytes
_DELETED = 18
_KEY, _VALUE = 1, 5  # of etcd's message KeyValue


@dataclass(frozen=True)
class Snapshot:
    """A verified snapshot.

    Attributes:
        size_bytes: of the file.
        sha256: of the database in it, as the file itself says at its end.
        revision: etcd's, which counts every change that was ever made.
        values: what the living keys hold. Views into the file: it must stay as it is while they are used.
    """

    path: Path
    size_bytes: int
    sha256: str
    revision: int
    values: Mapping[bytes, memoryview] = field(repr=False)

    @property
    def keys(self) -> int:
        """How many keys live."""
        return len(self.values)


def read(path: Path) -> Snapshot:
    """Verify a snapshot, checksum and database, and open it.

    Raises:
        UserError: the file can't be read.
        ProtocolError: it is cut short, damaged, or no snapshot at all.
    """
    try:
        digest = _verify(path, str(path))
        with path.open("rb") as file:
            whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror}") from None
    try:
        revision, values = _living(Bolt(whole[:-_DIGEST]))
    except ProtocolError as error:
        raise ProtocolError(f"{path}: not a usable etcd snapshot: {error}") from None
    return Snapshot(path, len(whole), digest, revision, values)


def _living(database: Bolt) -> tuple[int, dict[bytes, memoryview]]:
    """The newest revision, and the keys that were not deleted."""
    revision, values = 0, dict[bytes, memoryview]()
    for row, record in database.items(b"key"):
        revision = int.from_bytes(row[:_REVISION], "big")
        found = {number: value for number, value in fields(record) if isinstance(value, memoryview)}
        key = bytes(found.get(_KEY, b""))
        if len(row) == _DELETED:
            values.pop(key, None)
        else:
            values[key] = found.get(_VALUE, memoryview(b""))
    return revision, values


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


def _verify(path: Path, source: str) -> str:
    """The file's checksum, which fits."""
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
    return digest.hexdigest()
