"""Reading a bolt database, the file that etcd keeps its keys in: read-only, and whole or an error.

Nothing but the standard library: the nightly backup's pod runs this very file. Format:
https://github.com/etcd-io/bbolt/tree/main/internal/common (page.go, meta.go, bucket.go).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from providers.errors import ProtocolError

_PAGE = struct.Struct("<QHHI")  # id, flags, count, overflow
_META = struct.Struct("<IIIIQQQQQ")  # magic, version, page size, flags, root, sequence, free list, high water, txid
_BRANCH = struct.Struct("<IIQ")  # position, key's size, page id
_LEAF = struct.Struct("<IIII")  # flags, position, key's size, value's size
_BUCKET = struct.Struct("<QQ")  # root page, sequence
_MAGIC, _VERSION = 0xED0CDAED, 2
_IS_BRANCH, _IS_LEAF, _IS_META = 1, 2, 4
_IS_BUCKET = 1
_PAGE_SIZES = (4096, 8192, 16384, 32768, 65536, 1024, 2048)


@dataclass(frozen=True)
class _Meta:
    page_bytes: int
    root: int
    high_water: int
    transaction: int


class Bolt:
    """An open database.

    Args:
        data: the file's bytes, without the digest that a snapshot ends in.
    """

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._meta = self._newest()
        self._seen: set[int] = set()

    @property
    def size_bytes(self) -> int:
        """The size of what the database uses of its file."""
        return self._meta.high_water * self._meta.page_bytes

    def items(self, bucket: bytes) -> Iterator[tuple[memoryview, memoryview]]:
        """Keys and values of a bucket, in the keys' order; nothing when there is no such bucket.

        Raises:
            ProtocolError: a page is not what it should be.
        """
        self._seen.clear()
        for flags, key, value in self._page(self._meta.root):
            if key == bucket and flags & _IS_BUCKET:
                yield from ((name, item) for _, name, item in self._bucket(value))

    def _newest(self) -> _Meta:
        found = [meta for meta in (self._meta_at(0), *map(self._meta_at, _PAGE_SIZES)) if meta is not None]
        if not found:
            raise ProtocolError("not an etcd database")
        meta = max(found, key=lambda meta: meta.transaction)
        if meta.high_water * meta.page_bytes > len(self._data):
            raise ProtocolError("cut short: the database is larger than its file")
        return meta

    def _meta_at(self, start: int) -> _Meta | None:
        """The meta page at an offset: one of the first two pages, if it is sound."""
        body = start + _PAGE.size
        end = body + _META.size
        if len(self._data) < end + 8 or not self._unpack(_PAGE, start)[1] & _IS_META:
            return None
        magic, version, size, _, root, _, _, high_water, transaction = self._unpack(_META, body)
        sound = int.from_bytes(self._data[end : end + 8], "little") == _fnv1a(self._data[body:end])
        if magic != _MAGIC or version != _VERSION or size not in _PAGE_SIZES or not sound:
            return None
        return _Meta(size, root, high_water, transaction)

    def _bucket(self, value: memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
        if len(value) < _BUCKET.size:
            raise ProtocolError("damaged: a bucket without a root")
        root = _BUCKET.unpack_from(value)[0]
        return self._page(root) if root else self._elements(value[_BUCKET.size :], inline=True)

    def _page(self, number: int) -> Iterator[tuple[int, memoryview, memoryview]]:
        start = number * self._meta.page_bytes
        if number in self._seen or not 1 < number < self._meta.high_water:
            raise ProtocolError(f"damaged: page {number} is not one of its tree")
        self._seen.add(number)
        named, _, _, overflow = self._unpack(_PAGE, start)
        if named != number:
            raise ProtocolError(f"damaged: page {number} calls itself {named}")
        return self._elements(self._data[start : start + (overflow + 1) * self._meta.page_bytes], inline=False)

    def _elements(self, page: memoryview, *, inline: bool) -> Iterator[tuple[int, memoryview, memoryview]]:
        _, flags, count, _ = _unpacked(_PAGE, page, 0)
        if flags & _IS_LEAF:
            for at in range(_PAGE.size, _PAGE.size + count * _LEAF.size, _LEAF.size):
                kind, position, key, value = _unpacked(_LEAF, page, at)
                middle = at + position + key
                yield kind, _cut(page, at + position, middle), _cut(page, middle, middle + value)
        elif flags & _IS_BRANCH and not inline:
            for at in range(_PAGE.size, _PAGE.size + count * _BRANCH.size, _BRANCH.size):
                yield from self._page(_unpacked(_BRANCH, page, at)[2])
        else:
            raise ProtocolError("damaged: a page that holds neither keys nor pages")

    def _unpack(self, shape: struct.Struct, start: int) -> tuple[int, ...]:
        return _unpacked(shape, self._data, start)


def _unpacked(shape: struct.Struct, data: memoryview, start: int) -> tuple[int, ...]:
    if start + shape.size > len(data):
        raise ProtocolError("damaged: a page ends too early")
    return shape.unpack_from(data, start)


def _cut(page: memoryview, start: int, end: int) -> memoryview:
    if end > len(page):
        raise ProtocolError("damaged: a key ends outside its page")
    return page[start:end]


def _fnv1a(data: memoryview) -> int:
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value
