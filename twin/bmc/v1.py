"""Firmware 1.x: plain http, no authentication, numbers instead of strings, upload into the query (facts A1)."""

from typing import Any

from aiohttp import web

from twin.bmc import answers, queries
from twin.bmc.daemon import Daemon
from twin.bmc.transfer import Broken, FlashRefused, Transfer

_BIGGEST_BYTES = 64 << 20  # the upload goes through the BMC's memory: big files fail
_CHUNK_BYTES = 64 << 10


def application(daemon: Daemon) -> web.Application:
    """The http API of one board."""
    app = web.Application(middlewares=answers.middlewares(daemon), client_max_size=_BIGGEST_BYTES)

    async def dispatch(request: web.Request) -> web.StreamResponse:
        return await _dispatch(daemon, request)

    async def unknown(request: web.Request) -> web.Response:
        return answers.index()

    app.router.add_route("*", "/api/bmc", dispatch)
    app.router.add_route("*", "/{rest:.*}", unknown)
    return app


async def _dispatch(daemon: Daemon, request: web.Request) -> web.StreamResponse:
    asked = (request.query.get("opt"), request.query.get("type"))
    if asked == ("set", "flash"):
        return await _flash(daemon, request)
    if asked == ("get", "flash"):
        return answers.envelope([{"result": daemon.flasher.status()}])
    if asked == ("get", "power"):
        return answers.envelope([{f"node{slot}": int(on) for slot, on in daemon.board.power.items()}])
    if asked == ("get", "other"):
        version = daemon.board.spec.firmware.removeprefix("v")
        return answers.envelope([{"api": "1.0", "version": version, "ip": str(daemon.board.spec.address)}])
    if asked == ("get", "usb"):
        usb = daemon.board.usb
        return answers.envelope([{"mode": usb.mode.value, "node": usb.slot - 1}])
    return await queries.answer(daemon, request.query, b"", request.method)


async def _flash(daemon: Daemon, request: web.Request) -> web.StreamResponse:
    """One multipart POST that ends when all is written, or breaks when it is too big for the BMC."""
    length = request.content_length or 0
    if length > _BIGGEST_BYTES:
        return await answers.drop(request)
    part: Any = await (await request.multipart()).next()
    body = bytes(await part.read()) if part is not None else b""
    transfer = Transfer(queries.slot(request.query), request.query.get("file", "image"), len(body))
    daemon.flasher.start(transfer)
    transfer.began = True
    try:
        for start in range(0, len(body), _CHUNK_BYTES):
            await daemon.flasher.put(transfer, body[start : start + _CHUNK_BYTES])
        await daemon.flasher.end(transfer)
    except (FlashRefused, Broken) as error:
        return answers.envelope([{"result": str(error)}])
    return answers.ok()
