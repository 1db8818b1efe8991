"""The API of firmware 2.0 and later under `/api/bmc` (facts A3 to A6)."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession, web

from twin.bmc import answers, queries
from twin.bmc.auth import Denied
from twin.bmc.daemon import Daemon
from twin.bmc.transfer import Broken, FlashRefused, Transfer

_CHUNK_BYTES = 64 << 10
_ESTABLISHED = "01"  # in /proc/net/tcp


def application(daemon: Daemon) -> web.Application:
    """The https API of one board."""
    app = web.Application(middlewares=answers.middlewares(daemon), client_max_size=1 << 20)
    app.on_response_prepare.append(_untyped)
    api = Api(daemon)
    app.router.add_route("*", "/api/bmc/authenticate", api.authenticate)
    app.router.add_post("/api/bmc/upload/{handle}", api.guarded(api.upload))
    app.router.add_get("/api/bmc/upload/{handle}/cancel", api.guarded(api.cancel))
    app.router.add_get("/api/bmc/info", api.guarded(api.info))
    app.router.add_get("/api/bmc/backup", api.guarded(api.backup))
    app.router.add_route("*", "/api/bmc", api.guarded(api.dispatch))
    app.router.add_route("*", "/api/bmc/{rest:.*}", api.guarded(api.unknown))
    app.router.add_route("*", "/{rest:.*}", api.unknown)
    return app


async def _untyped(request: web.Request, response: web.StreamResponse) -> None:
    """Take back the content type that aiohttp adds where bmcd sends none."""
    if response.get("untyped"):
        del response.headers["Content-Type"]


def redirect(daemon: Daemon) -> web.Application:
    """Port 80: `/info`, and everything else is sent to :443, even when the Host names a port (facts A2)."""

    async def info(request: web.Request) -> web.Response:
        return answers.ok(queries.other(daemon))

    async def moved(request: web.Request) -> web.Response:
        return web.Response(status=308, headers={"Location": f"https://{request.host}:443{request.raw_path}"})

    app = web.Application()
    app.router.add_get("/info", info)
    app.router.add_route("*", "/{rest:.*}", moved)
    return app


class Api:
    """The handlers of one bmcd."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def guarded(self, handler: Any) -> Any:
        """Authentication, and one request at a time: bmcd holds its auth mutex until the handler returns."""

        async def call(request: web.Request) -> web.StreamResponse:
            if not self._daemon.board.spec.loopback_auth:
                return await handler(request)  # type: ignore[no-any-return]
            async with self._daemon.busy:
                self._daemon.auth.check(_peer(request), request.headers.get("Authorization"))
                return await handler(request)  # type: ignore[no-any-return]

        return call

    async def authenticate(self, request: web.Request) -> web.Response:
        """A token for user and password; the answer has no content type."""
        async with self._daemon.busy:
            try:
                token = self._daemon.auth.login(_peer(request), await request.read())
            except Denied as error:
                return answers.plain(str(error), 403)
        session = {"id": token, "name": "User Session", "description": "User Session"}
        body = json.dumps({**session, "username": self._daemon.board.spec.username}).encode()
        response = web.Response(body=body, headers={"X-Auth-Token": token})
        response["untyped"] = True
        return response

    async def unknown(self, request: web.Request) -> web.Response:
        """Any other path is the web UI's."""
        return answers.index()

    async def info(self, request: web.Request) -> web.Response:
        """The same as `type=other`."""
        return answers.ok(queries.other(self._daemon))

    async def backup(self, request: web.Request) -> web.Response:
        """The BMC's settings as an archive."""
        return queries.backup()

    async def dispatch(self, request: web.Request) -> web.StreamResponse:
        """Flash requests are found by substring in the undecoded query; the rest by `opt` and `type`."""
        raw = request.rel_url.raw_query_string
        transfer = re.search(r"type=(flash|firmware)", raw)
        if transfer and request.method == "GET" and "opt=get" in raw:
            return answers.bare(self._daemon.flasher.status())
        if transfer and request.method == "GET" and "opt=set" in raw:
            return await self._start(request, firmware=transfer.group(1) == "firmware")
        body = await request.read() if request.method == "POST" else b""
        try:
            return await queries.answer(self._daemon, request.query, body, request.method)
        except queries.PlainError as error:
            return answers.plain(str(error), error.status)

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancel everything, whatever the handle."""
        self._daemon.flasher.cancel()
        return web.Response()

    async def upload(self, request: web.Request) -> web.StreamResponse:
        """The bytes of a transfer, as the first part of a multipart body."""
        flasher = self._daemon.flasher
        try:
            transfer = flasher.claim(int(request.match_info["handle"]))
        except (FlashRefused, ValueError) as refusal:
            return _refused(request, str(refusal))
        watch = asyncio.ensure_future(_watch(request, asyncio.current_task()))
        try:
            return await self._receive(request, transfer)
        except Broken:
            return await answers.drop(request)
        except FlashRefused as refusal:
            return _refused(request, str(refusal))
        except (OSError, ValueError, asyncio.CancelledError):
            flasher.give_up(transfer)
            raise
        finally:
            watch.cancel()

    async def _receive(self, request: web.Request, transfer: Transfer) -> web.Response:
        part = await (await request.multipart()).next()
        if part is not None and hasattr(part, "read_chunk"):
            while data := await part.read_chunk(transfer.chunk_bytes):
                await self._daemon.flasher.put(transfer, bytes(data))
        await self._daemon.flasher.end(transfer)
        return web.Response()

    async def _start(self, request: web.Request, *, firmware: bool) -> web.Response:
        try:
            transfer, source = await self._wanted(request, firmware=firmware)
        except (answers.BadRequest, OSError, ClientError) as error:  # bare Rust errors here: always 500 (facts A4)
            return answers.plain(str(error), 500)
        return answers.bare({"handle": self._daemon.flasher.start(transfer, source)})

    async def _wanted(self, request: web.Request, *, firmware: bool) -> tuple[Transfer, AsyncIterator[bytes] | None]:
        query, modern = request.query, self._daemon.board.spec.version >= (2, 1)
        slot = None if firmware else queries.slot(query)
        name = query.get("file")
        if name is None:
            raise answers.BadRequest("Missing `file` parameter")
        sha256 = query.get("sha256", "").lower() if modern and "local" not in query else ""
        if re.fullmatch(r"([0-9a-f]{2})*", sha256) is None:
            raise answers.BadRequest("Invalid character in sha256: not hexadecimal")
        source, length = await self._source(query, name, modern=modern)
        xz = modern and name.endswith(".xz")
        return Transfer(slot, name, length, sha256, modern and "skip_crc" in query, xz), source

    async def _source(
        self, query: queries.Query, name: str, *, modern: bool
    ) -> tuple[AsyncIterator[bytes] | None, int]:
        """Where the bytes come from: a file on the BMC, a URL, or an upload that follows."""
        if "local" in query:
            if self._daemon.lab.faults.take("bmc-tmp-full", board=self._daemon.board.name):
                raise answers.BadRequest("No space left on device (os error 28)")
            return _read(Path(name)), Path(name).stat().st_size
        if modern and name.startswith(("http://", "https://")):
            async with ClientSession() as session, session.head(name, allow_redirects=True) as head:
                return _fetch(name), _length(head.headers.get("Content-Length") if head.ok else None)
        return None, _length(query.get("length"))


async def _fetch(url: str) -> AsyncIterator[bytes]:
    async with ClientSession() as session, session.get(url) as answer:
        async for data in answer.content.iter_chunked(_CHUNK_BYTES):
            yield data


async def _read(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while data := file.read(_CHUNK_BYTES):
            yield data
            await asyncio.sleep(0)


def _length(text: str | None) -> int:
    if text is None:
        raise answers.BadRequest("Missing `length` parameter")
    if not text.isdigit():
        raise answers.BadRequest("invalid digit found in string")
    return int(text)


def _refused(request: web.Request, text: str) -> web.Response:
    """An answer before the body was read: the connection ends with it, and the sender may see a broken pipe."""
    response = answers.plain(text, 500)
    response.force_close()
    return response


async def _watch(request: web.Request, handler: asyncio.Task[Any] | None) -> None:
    """Notice that the sender is gone even while nothing is read from it, as a stalled disk makes it."""
    peer = request.transport.get_extra_info("peername") if request.transport else None
    while peer is not None and _connected(*peer[:2]):
        await asyncio.sleep(0.3)
    if handler is not None:
        handler.cancel()


def _connected(address: str, port: int) -> bool:
    """Whether the sender's own end is open. A closed one can't say so while its unsent bytes wait for us to read."""
    local = f"{socket.inet_aton(address)[::-1].hex().upper()}:{port:04X}"
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return any(row[1] == local and row[3] == _ESTABLISHED for row in rows)


def _peer(request: web.Request) -> str:
    return request.remote or "?"
