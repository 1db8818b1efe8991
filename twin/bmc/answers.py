"""How bmcd's answers look on the wire, and the faults that spoil them (facts A4)."""

import asyncio
import json
from typing import Any

from aiohttp import web

from twin.bmc.auth import Denied
from twin.bmc.daemon import Daemon
from twin.faults import Fault

INDEX = "<!doctype html><html><head><title>Turing Pi</title></head><body><div id=root></div></body></html>\n"


class BadRequest(Exception):
    """A 400 in the envelope."""


class Failure(Exception):
    """A 500 in the envelope, or another error status."""

    def __init__(self, text: str, status: int = 500) -> None:
        super().__init__(text)
        self.status = status


class Dropped(Exception):
    """The worker panics: the connection is closed without an answer."""


def ok(value: Any = "ok") -> web.Response:
    """A success in the envelope."""
    return envelope([{"result": value}])


def envelope(response: Any, status: int = 200) -> web.Response:
    """`{"response": ...}` as application/json, without aiohttp's charset, as actix sends it."""
    body = json.dumps({"response": response}, separators=(",", ":")).encode()
    return web.Response(body=body, status=status, content_type="application/json")


def bare(value: Any) -> web.Response:
    """JSON without the envelope, as text/plain: flash start and flash status."""
    return web.Response(text=json.dumps(value, separators=(",", ":")), content_type="text/plain", charset="utf-8")


def plain(text: str, status: int) -> web.Response:
    """A bare Rust error: text/plain, whatever was meant."""
    return web.Response(text=text, status=status, content_type="text/plain", charset="utf-8")


def index() -> web.Response:
    """The web UI, which answers every unknown path with 200."""
    return web.Response(text=INDEX, content_type="text/html")


def kind(request: web.Request) -> str:
    """The word that `--type` of an answer fault is compared with."""
    last = request.path.rsplit("/", 1)[-1]
    return request.query.get("type") or ("upload" if "/upload/" in request.path else last)


async def drop(request: web.Request) -> web.Response:
    """Close the connection, no answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def middlewares(daemon: Daemon) -> list[Any]:
    """Outermost first: faults that spoil an answer, then errors to answers."""

    @web.middleware
    async def spoil(request: web.Request, handler: Any) -> web.StreamResponse:
        fault = _fault(daemon, request, "answer-500")
        if fault is not None:
            return plain(str(fault.params.get("text", "internal error")), 500)
        response: web.Response = await handler(request)
        return await _spoiled(daemon, request, _shaped(daemon, response))

    @web.middleware
    async def errors(request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            response: web.StreamResponse = await handler(request)
        except BadRequest as error:
            return envelope([{"result": str(error)}], 400)
        except Failure as error:
            return envelope([{"result": str(error)}], error.status)
        except Dropped:
            return await drop(request)
        except Denied as error:
            refusal = plain(str(error), 401)
            refusal.headers["WWW-Authenticate"] = error.challenge
            return refusal
        return response

    return [spoil, errors]


def _fault(daemon: Daemon, request: web.Request, name: str) -> Fault | None:
    return daemon.lab.faults.take(name, board=daemon.board.name, type=kind(request))


async def _spoiled(daemon: Daemon, request: web.Request, response: web.Response) -> web.StreamResponse:
    if _fault(daemon, request, "answer-html"):
        return index()
    if _fault(daemon, request, "answer-malformed"):
        body = bytes(response.body or b"{}") if isinstance(response.body, (bytes, bytearray)) else b"{}"
        return web.Response(body=b"{" + body[: len(body) // 2], content_type="application/json")
    if _fault(daemon, request, "answer-drop"):
        return await drop(request)
    hang = _fault(daemon, request, "answer-hang")
    if hang is not None:
        await asyncio.sleep(hang.number("for_s", 3600))
    if _fault(daemon, request, "answer-cut"):
        return await _cut(request)
    slow = _fault(daemon, request, "answer-slow")
    return await _drip(request, response, slow.number("byte_s", 1)) if slow else response


async def _cut(request: web.Request) -> web.StreamResponse:
    stream = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
    await stream.prepare(request)
    await stream.write(b'{"response":[{"res')
    await drop(request)
    return stream


async def _drip(request: web.Request, response: web.Response, byte_s: float) -> web.StreamResponse:
    body = response.body if isinstance(response.body, bytes) else b""
    headers = {"Content-Length": str(len(body)), "Content-Type": response.content_type}
    stream = web.StreamResponse(status=response.status, headers=headers)
    await stream.prepare(request)
    for position in range(len(body)):
        await stream.write(body[position : position + 1])
        await asyncio.sleep(byte_s)
    return stream


def _shaped(daemon: Daemon, response: web.Response) -> web.Response:
    """Another firmware's shape for the same answer (4a.8)."""
    fault = daemon.lab.faults.active("bmc-shape", board=daemon.board.name)
    if fault is None or not isinstance(response.body, bytes) or response.status != 200 or not response.body:
        return response
    try:
        value = json.loads(response.body)
    except ValueError:
        return response
    shaped = _shapes(str(fault.params.get("variant", "nested")), value)
    return web.Response(body=json.dumps(shaped).encode(), content_type=response.content_type)


def _shapes(variant: str, value: Any) -> Any:
    if variant == "array" and isinstance(value, dict) and "Transferring" in value:
        return {"Transferring": [value["Transferring"]]}
    if not isinstance(value, dict) or "response" not in value:
        return value
    inner = value["response"]
    return {"response": [inner]} if variant == "nested" else {"response": inner[0] if variant == "bare" else inner}
