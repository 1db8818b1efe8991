"""The Image Factory over http: schematics in, disk images out (facts B8). The chart repository shares its port."""

import asyncio
import lzma
from pathlib import Path

from aiohttp import web

from twin import chartrepo, schematic
from twin.disk import write
from twin.image import Image, make
from twin.lab import Lab

_CHUNK_BYTES = 16 << 10
_EXTENSIONS = (
    "siderolabs/iscsi-tools",
    "siderolabs/util-linux-tools",
    "siderolabs/qemu-guest-agent",
    "siderolabs/nfs-utils",
    "siderolabs/gvisor",
)
_OVERLAYS = (
    {"name": "turingrk1", "image": "siderolabs/sbc-rockchip"},
    {"name": "rpi_generic", "image": "siderolabs/sbc-raspberrypi"},
)

_DISKS = ("metal-arm64.raw.xz", "metal-amd64.raw.xz")
_BOOTED = ("kernel-amd64", "kernel-arm64", "initramfs-amd64.xz", "initramfs-arm64.xz")  # over the network


class Factory:
    """One factory; schematics that were posted are kept in the twin's state folder, images are made when asked for."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._folder = lab.folder / "factory"
        self._folder.mkdir(exist_ok=True)
        self._making = asyncio.Lock()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        app = web.Application()
        app.router.add_post("/schematics", self._post)
        app.router.add_get("/schematics/{id}", self._get)
        app.router.add_get("/versions", self._versions)
        app.router.add_get("/version/{version}/{what:extensions|overlays}/official", self._official)
        app.router.add_get("/image/{id}/{version}/{file}", self._image)
        chartrepo.add_routes(app.router)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        where = self._lab.spec.factory
        await web.TCPSite(self._runner, str(where.address), where.port, reuse_address=True).start()

    async def close(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    def known(self, identity: str) -> str | None:
        """The canonical text of a schematic that was posted here, None for any other."""
        path = self._folder / f"{identity}.yaml"
        return path.read_text() if identity.isalnum() and path.exists() else None

    async def _post(self, request: web.Request) -> web.Response:
        if self._fault("factory-error"):
            return web.Response(status=500, text="internal server error")
        try:
            text = schematic.canonical(await request.read())
        except schematic.InvalidSchematic as error:
            return web.Response(status=400, text=str(error))
        identity = schematic.identity(text.encode())
        write(self._folder / f"{identity}.yaml", text.encode())
        return web.json_response({"id": identity, "schematic": text}, status=201)

    async def _get(self, request: web.Request) -> web.Response:
        text = self.known(request.match_info["id"])
        return web.Response(status=404, text="schematic not found") if text is None else web.Response(text=text)

    async def _versions(self, request: web.Request) -> web.Response:
        return web.json_response(list(self._lab.spec.talos_versions))

    async def _official(self, request: web.Request) -> web.Response:
        if request.match_info["version"] not in self._lab.spec.talos_versions:
            return web.Response(status=404, text="version not found")
        if request.match_info["what"] == "overlays":
            return web.json_response(list(_OVERLAYS))
        return web.json_response([{"name": name, "ref": f"ghcr.io/{name}:v1", "digest": ""} for name in _EXTENSIONS])

    async def _image(self, request: web.Request) -> web.StreamResponse:
        if self._fault("factory-error"):
            return web.Response(status=500, text="internal server error")
        refusal = self._refuse(request)
        if refusal is not None:
            return refusal
        path = await self._made(request.match_info["id"], request.match_info["version"], request.match_info["file"])
        self._lab.events.emit("image_request", file=path.name, range=request.headers.get("Range"))
        return await self._send(request, path)

    def _refuse(self, request: web.Request) -> web.Response | None:
        file, text = request.match_info["file"], self.known(request.match_info["id"])
        if file.endswith(".sha256"):
            return web.Response(status=402, text="payment required: checksums are not part of the community build")
        if text is None or self._fault("factory-missing"):
            return web.Response(status=404, text="schematic not found")
        if request.match_info["version"] not in self._lab.spec.talos_versions:
            return web.Response(status=404, text="version not found")
        if file not in (*_DISKS, *_BOOTED):
            return web.Response(status=400, text=f"no such image: {file}")
        missing = [name for name in schematic.extensions(text) if name not in _EXTENSIONS]
        return web.Response(status=400, text=f'official extension "{missing[0]}" is not available') if missing else None

    async def _made(self, identity: str, version: str, file: str) -> Path:
        if file in _BOOTED:
            path = self._folder / f"{identity}-{version}-{file}"
            path.write_text(f"{file} of Talos {version}, schematic {identity}\n")
            return path
        arch = file.removeprefix("metal-").removesuffix(".raw.xz")
        path = self._folder / f"{identity}-{version}-{arch}.raw.xz"
        async with self._making:
            if not path.exists():
                image = Image(identity, version, arch, schematic.overlay(self.known(identity) or "{}"))
                await asyncio.to_thread(_build, image, self._lab.spec.factory.image_bytes, path)
        return path

    async def _send(self, request: web.Request, path: Path) -> web.StreamResponse:
        faults = {name: self._lab.faults.take(name) for name in ("factory-cut", "factory-corrupt", "factory-slow")}
        no_range = self._lab.faults.active("factory-no-range") is not None
        if not no_range and not any(faults.values()):
            return web.FileResponse(path, headers={"Content-Type": "application/x-xz"})
        data = path.read_bytes()
        start = 0 if no_range else _first_byte(request)
        if faults["factory-corrupt"]:
            middle = (start + len(data)) // 2
            data = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        cut, slow = faults["factory-cut"], faults["factory-slow"]
        return await _stream(
            request,
            data,
            start,
            cut.number("after_bytes", len(data) / 2) if cut else None,
            slow.number("rate", 1 << 20) if slow else None,
        )

    def _fault(self, name: str) -> bool:
        return self._lab.faults.take(name) is not None


async def _stream(
    request: web.Request, data: bytes, start: int, cut_after: float | None, rate: float | None
) -> web.StreamResponse:
    """Send a file's bytes from `start`, with a cut or a brake."""
    headers = {"Content-Length": str(len(data) - start), "Accept-Ranges": "bytes"}
    if start:
        headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
    stream = web.StreamResponse(status=206 if start else 200, headers=headers)
    await stream.prepare(request)
    for position in range(start, len(data), _CHUNK_BYTES):
        if cut_after is not None and position - start >= cut_after and request.transport is not None:
            request.transport.abort()
            return stream
        await stream.write(data[position : position + _CHUNK_BYTES])
        await asyncio.sleep(_CHUNK_BYTES / rate if rate else 0)
    return stream


def _first_byte(request: web.Request) -> int:
    return request.http_range.start or 0


def _build(image: Image, body_bytes: int, path: Path) -> None:
    pack = lzma.LZMACompressor(preset=0)
    data = b"".join(pack.compress(chunk) for chunk in make(image, body_bytes))
    write(path, data + pack.flush())
