"""One endpoint's gRPC connection, made synchronous: own event loop, deadlines, errors translated.

grpcio can't speak TLS with Ed25519 certificates, which Talos' are, nor skip verification as maintenance mode needs;
grpclib goes through OpenSSL and can.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from google.protobuf.message import DecodeError, Message
from grpclib.client import Channel, StreamStreamMethod, UnaryStreamMethod
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.exceptions import ProtocolError as GrpcProtocolError
from grpclib.protocol import H2Protocol
from h2.exceptions import ProtocolError as H2ProtocolError

from providers.errors import AuthError, ProtocolError, RefusedError, UnreachableError, UserError
from providers.talos.pki import ClientCert, plain_label

PORT = 50000

# After a reboot the old connection is half open: nothing says so until a call has waited its whole deadline. On a LAN a
# new connection costs milliseconds, so one that has been idle this long (seconds) is not trusted.
_IDLE_S = 5.0
_CLOSE_S = 0.5

# grpclib says so of broken and of compressed messages: by assertion, or as not implemented.
_NONSENSE = (GrpcProtocolError, H2ProtocolError, DecodeError, AssertionError, NotImplementedError, ValueError)

Request = TypeVar("Request", bound=Message)
Reply = TypeVar("Reply", bound=Message)


class TalosError(RefusedError):
    """The node answered with an error; `code` is gRPC's name of it (`ALREADY_EXISTS`, `FAILED_PRECONDITION`, ...)."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class HandshakeError(AuthError):
    """TLS failed: the node is in the other mode, of another cluster, or its clock is off. `probe` tells which."""


@dataclass(frozen=True)
class Method(Generic[Request, Reply]):
    """A remote method: its path and the types that go over the wire."""

    path: str
    request: type[Request]
    reply: type[Reply]

    @property
    def name(self) -> str:
        """The method's bare name, for messages."""
        return self.path.rpartition("/")[2]


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of `ip`, `ip:port`, `[ipv6]:port` or a bare IPv6 address.

    Raises:
        UserError: the port is not a number.
    """
    host, separator, port = address.rpartition(":")
    if not separator or (":" in host and not host.endswith("]")):
        host, port = address, str(PORT)
    if not port.isdigit():
        raise UserError(f"{address}: not an address: write ip or ip:port")
    return host.strip("[]"), int(port)


def insecure_context() -> ssl.SSLContext:
    """TLS that verifies nothing and shows nothing: what maintenance mode takes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context


def secure_context(cert: ClientCert) -> ssl.SSLContext:
    """Mutual TLS with a cluster's certificates.

    Raises:
        UserError: the certificates can't be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    try:
        context.load_verify_locations(cadata=cert.ca)
        with _as_file(cert.crt + "\n" + plain_label(cert.key)) as path:
            context.load_cert_chain(path)
    except (ssl.SSLError, ValueError) as error:
        raise UserError(f"the Talos client certificate can't be loaded: {_reason(error)}") from None
    return context


@contextmanager
def _as_file(text: str) -> Iterator[str]:
    """A path with this content, for an OpenSSL call that takes only files: in memory where the system can."""
    if hasattr(os, "memfd_create"):
        handle = os.memfd_create("pem")
        path = f"/proc/self/fd/{handle}"
    else:  # macOS
        handle, path = tempfile.mkstemp()
    try:
        os.write(handle, text.encode())
        yield path
    finally:
        os.close(handle)
        if not path.startswith("/proc/"):
            Path(path).unlink()


class _Protocol(H2Protocol):
    """grpclib's protocol, which forgets why a connection ended and can't be closed at once."""

    cause: BaseException | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.gone = asyncio.Event()
        self.wire = transport
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.cause = exc
        self.gone.set()
        super().connection_lost(exc)

    async def abort(self) -> None:
        if isinstance(self.wire, asyncio.WriteTransport):
            self.wire.abort()
        try:
            await asyncio.wait_for(self.gone.wait(), _CLOSE_S)
        except TimeoutError:
            return


class _Channel(Channel):
    """A channel that closes without leaving anything to the event loop."""

    async def _create_connection(self) -> H2Protocol:
        handler = super()._protocol_factory().handler
        _, protocol = await self._loop.create_connection(
            lambda: _Protocol(handler, self._config, self._h2_config),
            self._host,
            self._port,
            ssl=self._ssl,
        )
        return protocol

    @property
    def cause(self) -> BaseException | None:
        return getattr(self._protocol, "cause", None)

    async def aclose(self) -> None:
        protocol = self._protocol
        self.close()
        if isinstance(protocol, _Protocol):
            await protocol.abort()


class Connection:
    """Calls to one endpoint. Connects when needed, again after any failure; not for several threads at once."""

    def __init__(self, address: str, context: ssl.SSLContext) -> None:
        self.address = address
        self._host, self._port = parse_address(address)
        self._context = context
        self._loop: asyncio.AbstractEventLoop | None = None
        self._channel: _Channel | None = None
        self._used = 0.0

    def call(self, method: Method[Request, Reply], request: Request, timeout_s: float) -> Reply:
        """One request, one reply.

        Raises:
            UnreachableError: no answer within `timeout_s` seconds, or the connection broke.
            HandshakeError: TLS failed.
            TalosError: the node said no.
            ProtocolError: what answered is not Talos.
        """
        replies: list[Reply] = []
        self.stream(method, request, replies.append, timeout_s)
        if len(replies) != 1:
            raise ProtocolError(f"{self.address}: {method.name} gave {len(replies)} replies instead of one")
        return replies[0]

    def stream(
        self, method: Method[Request, Reply], request: Request, take: Callable[[Reply], None], timeout_s: float
    ) -> None:
        """One request, any number of replies, each handed to `take`; raises as `call` does."""
        self._run(method, (request,), take, timeout_s, UnaryStreamMethod)

    def upload(self, method: Method[Request, Reply], parts: Iterable[Request], timeout_s: float) -> Reply:
        """Any number of requests, one reply; raises as `call` does."""
        replies: list[Reply] = []
        self._run(method, parts, replies.append, timeout_s, StreamStreamMethod)
        if len(replies) != 1:
            raise ProtocolError(f"{self.address}: {method.name} gave {len(replies)} replies instead of one")
        return replies[0]

    def _run(
        self,
        method: Method[Request, Reply],
        requests: Iterable[Request],
        take: Callable[[Reply], None],
        timeout_s: float,
        kind: type[Any],
    ) -> None:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        exchange = self._exchange(method, requests, take, timeout_s, kind)
        with self._translated(method.name, timeout_s):
            self._loop.run_until_complete(self._bounded(exchange, timeout_s))
        self._used = time.monotonic()

    def close(self) -> None:
        """Give back the connection and the event loop; harmless when repeated."""
        if self._loop is not None:
            self._loop.run_until_complete(self._drop())
            self._loop.close()
            self._loop = None

    async def _bounded(self, exchange: Coroutine[Any, Any, None], timeout_s: float) -> None:
        if time.monotonic() - self._used > _IDLE_S:
            await self._drop()
        done = False
        try:
            async with asyncio.timeout(timeout_s):
                await exchange
            done = True
        except GRPCError:
            done = True
            raise
        except StreamTerminatedError as error:
            cause = self._channel.cause if self._channel else None
            raise (cause or error) from error
        finally:
            if not done:
                await self._drop()

    async def _exchange(
        self,
        method: Method[Request, Reply],
        requests: Iterable[Request],
        take: Callable[[Reply], None],
        timeout_s: float,
        kind: type[Any],
    ) -> None:
        if self._channel is None:
            self._channel = _Channel(self._host, self._port, ssl=self._context)
        remote = kind(self._channel, method.path, method.request, method.reply)
        async with remote.open(timeout=timeout_s) as stream:
            for request in requests:
                await stream.send_message(request, end=kind is UnaryStreamMethod)
            if kind is not UnaryStreamMethod:
                await stream.end()
            async for reply in stream:
                take(reply)

    async def _drop(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.aclose()

    @contextmanager
    def _translated(self, what: str, timeout_s: float) -> Iterator[None]:
        where = f"{self.address}: {what}"
        try:
            yield
        except GRPCError as error:
            raise from_status(where, error.status.name, error.message or "") from error
        except TimeoutError as error:
            raise UnreachableError(f"{where}: no answer within {timeout_s:g} s") from error
        except ssl.SSLError as error:
            raise HandshakeError(f"{where}: TLS failed ({_reason(error)}): {_hint(error)}") from error
        except _NONSENSE as error:
            raise ProtocolError(f"{where}: the answer is not Talos' ({error})") from error
        except (StreamTerminatedError, OSError) as error:
            raise UnreachableError(f"{where}: no connection ({error})") from error


def from_status(where: str, code: str, message: str) -> UnreachableError | TalosError | AuthError:
    """The project's error for a gRPC status."""
    text = f"{where}: {one_line(message) or 'no reason given'} ({code})"
    if code in (Status.UNAVAILABLE.name, Status.DEADLINE_EXCEEDED.name):
        return UnreachableError(text)
    if code == Status.UNAUTHENTICATED.name:
        return AuthError(text)
    return TalosError(text, code)


def one_line(message: str) -> str:
    """A node's message on one line, and without the config difference that some end in: it holds secrets."""
    return " ".join(re.split(r"\bdiff:", message)[0].split())


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return getattr(error, "reason", None) or str(error)


def _hint(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "the node is in maintenance mode, of another cluster, or at an address that its certificate doesn't name"
    return "the node is configured and wants a certificate of its cluster"
