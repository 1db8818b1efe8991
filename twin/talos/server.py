"""The node's API server: TLS in both modes, roles, and forwarding to other nodes (facts B1, B2, B4)."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.protocol import H2Protocol
from grpclib.server import Server, Stream

from twin.talos import methods
from twin.talos.etcd_client import EtcdError
from twin.talos.methods import ADMIN, READER, Call, Method
from twin.talos.pki import Pair, includes, server_context
from twin.talos.registry import lan

if TYPE_CHECKING:
    from twin.talos.os import Os

PORT = 50000
_ONE_TO_ONE_ONLY = "one-2-many proxying is not supported for this method, use 'node' instead of 'nodes'"


class _Connection(H2Protocol):
    """A connection that can fall silent without being closed."""

    silent = False
    over = False  # the system that it was for has ended
    transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        if self.over and isinstance(transport, asyncio.WriteTransport):
            transport.abort()  # the handshake came to its end after the system's
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if not self.silent:
            super().data_received(data)

    def fall_silent(self) -> None:
        self.silent = True
        if self.transport is not None:  # its handshake may have failed
            self.connection.flush = lambda: None  # type: ignore[method-assign]


class _Server(Server):
    """grpclib's server, letting its API keep hold of the connections."""

    def __init__(self, api: ApiServer) -> None:
        super().__init__([api])
        self._api = api

    def _protocol_factory(self) -> H2Protocol:
        plain = super()._protocol_factory()
        connection = _Connection(plain.handler, plain.config, plain.h2_config)
        self._api.connections = [c for c in self._api.connections if not _closing(c)] + [connection]
        return connection


def _closing(connection: _Connection) -> bool:
    return connection.transport is not None and connection.transport.is_closing()


class ApiServer:
    """Port 50000 of one node. Without a client authority it is maintenance mode: anybody is a reader."""

    def __init__(self, system: Os) -> None:
        self.system = system
        self.maintenance = True
        self.connections: list[_Connection] = []
        self._server: _Server | None = None
        self._context: ssl.SSLContext | None = None

    @property
    def listening(self) -> bool:
        """Whether the port is open."""
        return self._server is not None

    async def listen(self, leaf: Pair, client_ca: bytes | None) -> None:
        """Serve under a certificate, to clients of one authority or to anybody."""
        self.maintenance = client_ca is None
        silent = _silent(self.system)
        while silent:
            _abort(silent.pop())
        context = server_context(leaf, client_ca)
        self._context, context.sni_callback = context, self._choose
        while True:
            server = _Server(self)
            try:
                await server.start(self.system.address, PORT, ssl=context)
            except OSError:
                await asyncio.sleep(0.1)  # the last boot's socket is not gone yet
                continue
            self._server = server
            return

    def renew(self, leaf: Pair, client_ca: bytes) -> None:
        """Show another certificate and let other clients in, from the next connection on; who is connected stays."""
        self._context = server_context(leaf, client_ca)

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """Have a connection begin with what counts now: a listening socket keeps the context that it began with."""
        if self._context is not None:
            connection.context = self._context

    def cut(self, *, half_open: bool = False) -> None:
        """Close the port and every connection at once; half open, the connections stay and nothing comes any more."""
        if self._server is None:
            return
        self._server.close()
        for connection in self.connections:
            if half_open:
                connection.fall_silent()
                _silent(self.system).append(connection)
            else:
                _abort(connection)
        self._server = None

    def drop_connections(self) -> None:
        """Lose what is under way, answers included."""
        if self._server is not None:
            for connection in self.connections:
                _abort(connection)

    def __mapping__(self) -> dict[str, Handler]:
        return {
            path: Handler(self._serve(path, method), _cardinality(method), method.request, method.reply)
            for path, method in methods.table().items()
        }

    def _serve(self, path: str, method: Method) -> Any:
        async def serve(stream: Stream[Any, Any]) -> None:
            requests = [request async for request in stream] if method.uploads else [await stream.recv_message()]
            call = Call(path, method, requests, self._roles(stream))
            async for reply in self._route(call, stream):
                await stream.send_message(reply)

        return serve

    def _roles(self, stream: Stream[Any, Any]) -> frozenset[str]:
        if self.maintenance:
            return frozenset({READER})
        certificate = stream.peer.cert() or {}
        names = [pair for part in certificate.get("subject", ()) for pair in part]
        return frozenset(value for key, value in names if key == "organizationName")

    def _route(self, call: Call, stream: Stream[Any, Any]) -> AsyncIterator[Message]:
        one, many = _values(stream, "node"), _values(stream, "nodes")
        if self.maintenance or not (one or many):
            return self._here(call)
        if len(one) > 1:
            raise GRPCError(Status.INVALID_ARGUMENT, "node metadata must be single-valued")
        if one:
            return self._there(call, one[0])
        if not call.method.many:
            raise GRPCError(Status.INVALID_ARGUMENT, _ONE_TO_ONE_ONLY)
        return self._everywhere(call, many)

    async def _here(self, call: Call) -> AsyncIterator[Message]:
        """Answer as this node."""
        self._authorize(call)
        fault = self.system.fault("api-error", type=call.name)
        if fault is not None:
            raise GRPCError(Status.UNAVAILABLE, "error reading from server: EOF")
        try:
            if call.method.streams:
                async for reply in call.method.handler(self.system, call):
                    yield reply
            else:
                yield await call.method.handler(self.system, call)
        except EtcdError as error:
            raise GRPCError(Status.UNKNOWN, str(error)) from None

    async def _there(self, call: Call, target: str) -> AsyncIterator[Message]:
        """Pass a call on; only control planes hold the key for it."""
        if target == self.system.address:
            async for reply in self._here(call):
                yield reply
            return
        if not self.system.config_or_fail.control_plane:
            raise GRPCError(Status.PERMISSION_DENIED, "no request forwarding")
        other = lan(self.system.lab).at(target)
        if other is None or other.api.maintenance or not self._trusts(other):
            await asyncio.sleep(self.system.lab.clock.real_s(20, floor_s=0.2))
            raise GRPCError(
                Status.UNAVAILABLE, f'connection error: desc = "transport: error while dialing {target}:{PORT}"'
            )
        async for reply in other.api._here(call):  # noqa: SLF001
            yield reply

    async def _everywhere(self, call: Call, targets: list[str]) -> AsyncIterator[Message]:
        """Ask several nodes: one reply that names each, or a stream whose items do."""
        merged = call.method.reply()
        for target in targets:
            try:
                async for reply in self._there(call, target):
                    if call.method.streams:
                        reply.metadata.hostname = target  # type: ignore[attr-defined]
                        yield reply
                    else:
                        _label(reply, target)
                        merged.MergeFrom(reply)
            except GRPCError as error:
                self._failed(call, merged, target, error)
        if not call.method.streams:
            yield merged

    def _failed(self, call: Call, merged: Message, target: str, error: GRPCError) -> None:
        if call.method.streams:
            raise error
        metadata = merged.messages.add().metadata  # type: ignore[attr-defined]
        metadata.hostname = target
        metadata.error = f"rpc error: code = {error.status.name} desc = {error.message}"
        metadata.status.code = error.status.value
        metadata.status.message = error.message or ""

    def _trusts(self, other: Os) -> bool:
        """Both ways: this node's client certificate and the other's server certificate."""
        here, there = self.system.config_or_fail, other.config_or_fail
        ours, theirs = here.authority("machine", "ca").crt, there.authority("machine", "ca").crt
        return includes(there.accepted("machine"), ours) and includes(here.accepted("machine"), theirs)

    def _authorize(self, call: Call) -> None:
        if self.maintenance and self.system.version < (1, 13):
            if not call.method.maintenance:
                known = f"method {call.name} not implemented"
                text = "API is not implemented in maintenance mode" if call.name in methods.REFUSED_EARLY else known
                raise GRPCError(Status.UNIMPLEMENTED, text)
            return
        allowed = call.method.roles | {ADMIN}
        if not call.roles & allowed and not (self.maintenance and call.method.maintenance):
            raise GRPCError(Status.PERMISSION_DENIED, "not authorized")


def _label(reply: Message, target: str) -> None:
    for message in reply.messages:  # type: ignore[attr-defined]
        message.metadata.hostname = target


def _values(stream: Stream[Any, Any], key: str) -> list[str]:
    values = stream.metadata.getall(key, []) if stream.metadata else []
    return [part for value in values for part in str(value).split(",") if part]


def _cardinality(method: Method) -> Cardinality:
    if method.uploads:
        return Cardinality.STREAM_UNARY
    return Cardinality.UNARY_STREAM if method.streams else Cardinality.UNARY_UNARY


def _silent(system: Os) -> list[_Connection]:
    found: list[_Connection] = system.lab.registry.setdefault(f"talos-silent-{system.address}", [])
    return found


def _abort(connection: _Connection) -> None:
    connection.over = True
    if isinstance(connection.transport, asyncio.WriteTransport):
        connection.transport.abort()
