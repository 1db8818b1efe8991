"""A Helm chart repository over http: the stand-in charts of `twin/charts`, packed and listed as upstream's are.

The archives are the same bytes on each machine, so that a digest that was recorded on one holds on another.
"""

import asyncio
import hashlib
import io
import struct
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

CHARTS = Path(__file__).parent / "charts"
_CREATED = "2026-01-01T00:00:00Z"  # Helm wants a time; a changing one would change the index
_BLOCK_BYTES = 0xFFFF  # the most that one stored block of DEFLATE holds (RFC 1951, 3.2.4)
_GZIP_HEAD = bytes((0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255))  # no name, no time, system unknown (RFC 1952, 2.3)


@dataclass(frozen=True)
class Packed:
    """A chart as a repository serves it: what its Chart.yaml says, and its archive."""

    about: dict[str, Any]
    archive: bytes

    @property
    def file(self) -> str:
        """The archive's file name, `NAME-VERSION.tgz`."""
        return f"{self.about['name']}-{self.about['version']}.tgz"

    @property
    def digest(self) -> str:
        """The archive's SHA-256 in hex, as the index gives it."""
        return hashlib.sha256(self.archive).hexdigest()


def pack(folder: Path) -> Packed:
    """One chart from its folder. Raises OSError or KeyError when the folder holds no chart."""
    about = yaml.safe_load((folder / "Chart.yaml").read_text(encoding="utf-8"))
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in _files(folder):
            entry = tarfile.TarInfo(f"{about['name']}/{path.relative_to(folder).as_posix()}")
            entry.size = path.stat().st_size
            archive.addfile(entry, io.BytesIO(path.read_bytes()))
    return Packed(about, _gzip(tar.getvalue()))


def packed(charts: Path = CHARTS) -> dict[str, Packed]:
    """All charts by the file name of their archive."""
    every = [pack(path.parent) for path in sorted(charts.glob("*/Chart.yaml"))]
    return {chart.file: chart for chart in every}


def index(charts: dict[str, Packed]) -> str:
    """The repository's index.yaml; archives lie beside it."""
    entries: dict[str, list[dict[str, Any]]] = {}
    for file, chart in charts.items():
        entry = {**chart.about, "created": _CREATED, "digest": chart.digest, "urls": [file]}
        entries.setdefault(chart.about["name"], []).append(entry)
    return yaml.safe_dump({"apiVersion": "v1", "entries": entries, "generated": _CREATED})


def add_routes(router: web.UrlDispatcher) -> None:
    """Serve the repository under `/charts`. Charts are packed at each request: a changed folder is seen at once."""
    router.add_get("/charts/index.yaml", _index)
    router.add_get("/charts/{file}", _archive)


async def _index(request: web.Request) -> web.Response:
    text = index(await asyncio.to_thread(packed))
    return web.Response(text=text, content_type="text/yaml")


async def _archive(request: web.Request) -> web.Response:
    chart = (await asyncio.to_thread(packed)).get(request.match_info["file"])
    if chart is None:
        return web.Response(status=404, text="no such chart")
    return web.Response(body=chart.archive, content_type="application/gzip")


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def _gzip(data: bytes) -> bytes:
    """The data in a gzip file without compression: what a compressor writes depends on the zlib at hand."""
    blocks = (_stored(data, start) for start in range(0, max(len(data), 1), _BLOCK_BYTES))
    return _GZIP_HEAD + b"".join(blocks) + struct.pack("<LL", zlib.crc32(data), len(data) & 0xFFFFFFFF)


def _stored(data: bytes, start: int) -> bytes:
    block = data[start : start + _BLOCK_BYTES]
    last = start + _BLOCK_BYTES >= len(data)
    return struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF) + block
