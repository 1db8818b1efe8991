"""A node's Talos API in a thread: enough of a server to see what the client does with TLS, deadlines and errors."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Server

from providers.talos import methods, pki
from providers.talos.config import NodeConfig
from providers.talos.secrets import SecretsBundle
from providers.talos.transport import Method
from tests.ports import free_port

HOST = "127.106.0.1"

Answer = Callable[[Any], Any]


def server_certificate(ca: pki.CertAndKey, address: str = HOST) -> str:
    """What Talos makes for its API: Ed25519, the node's address in it; certificate and key as one PEM text."""
    key = ed25519.Ed25519PrivateKey.generate()
    now = dt.datetime.now(dt.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    builder = x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(pki.load_certificate(ca.crt).subject)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - dt.timedelta(hours=1))
    builder = builder.not_valid_after(now + dt.timedelta(hours=23)).add_extension(names, critical=True)
    leaf = builder.sign(pki.load_key(ca.key), None)
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return (leaf.public_bytes(Encoding.PEM) + plain).decode()


class _Server(Server):
    """grpclib's server, which can also end its connections without TLS's slow goodbye."""

    def __init__(self, handlers: Any) -> None:
        super().__init__(handlers)
        self._wires: list[Any] = []

    def _protocol_factory(self) -> Any:
        protocol: Any = super()._protocol_factory()
        made = protocol.connection_made

        def remember(transport: Any) -> None:
            self._wires.append(transport)
            made(transport)

        protocol.connection_made = remember
        return protocol

    def cut(self) -> None:
        for wire in self._wires:
            wire.abort()


class Node:
    """A grpclib server on a port of its own; `answers` maps a method's path to what makes its reply."""

    def __init__(self, ca: pki.CertAndKey, folder: Any, *, wants_certificate: bool) -> None:
        pem = folder / f"{id(self)}.pem"
        pem.write_text(server_certificate(ca))
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pem)
        self._context.set_alpn_protocols(["h2"])
        if wants_certificate:
            self._context.verify_mode = ssl.CERT_REQUIRED
            self._context.load_verify_locations(cadata=ca.crt)
        self._answers: dict[str, Answer] = {}
        self._uploads: dict[str, Answer] = {}
        self._thread: threading.Thread | None = None
        self.port = free_port(HOST)

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def answer(self, method: Method[Any, Any], reply: Answer) -> None:
        """`reply` gets the request and gives a reply, a list of them, an error to raise, or a coroutine of one."""
        self._answers[method.path] = reply

    def take_upload(self, method: Method[Any, Any], received: list[bytes], reply: Any) -> None:
        """Collect what is sent, then reply; an error to raise comes before anything was read."""

        async def take(stream: Any) -> Any:
            if not isinstance(reply, Exception):
                received.extend([part.content async for part in stream])
            return reply

        self._uploads[method.path] = take

    def __mapping__(self) -> dict[str, Handler]:
        found = [method for method in vars(methods).values() if isinstance(method, Method)]
        return {method.path: self._handler(method) for method in found}

    def _handler(self, method: Method[Any, Any]) -> Handler:
        refusal = GRPCError(Status.UNIMPLEMENTED, f"method {method.name} not implemented")

        async def handle(stream: Any) -> None:
            if method.path in self._uploads:
                found = self._uploads[method.path](stream)
            else:
                found = self._answers.get(method.path, lambda _: refusal)(await stream.recv_message())
            if asyncio.iscoroutine(found):
                found = await found
            if isinstance(found, Exception):
                raise found
            for message in found if isinstance(found, list) else [found]:
                await stream.send_message(message)

        kind = Cardinality.STREAM_STREAM if method is methods.ETCD_RECOVER else Cardinality.UNARY_STREAM
        return Handler(handle, kind, method.request, method.reply)

    def start(self) -> Node:
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)))
        self._thread.start()
        started.wait(5)
        return self

    async def _serve(self, started: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = _Server([self])
        await server.start(HOST, self.port, ssl=self._context)
        started.set()
        await self._stop.wait()
        server.close()
        server.cut()
        await server.wait_closed()
        await asyncio.sleep(0.02)  # the sockets are closed by callbacks

    def stop(self) -> None:
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(5)
            self._thread = None


@pytest.fixture(scope="session")
def bundle() -> SecretsBundle:
    return SecretsBundle.generate()


@pytest.fixture(scope="session")
def other_ca() -> pki.CertAndKey:
    return pki.new_authority("talos", "ed25519")


@pytest.fixture
def start_node(tmp_path: Any) -> Iterator[Callable[..., Node]]:
    """Start nodes; they stop with the test."""
    nodes: list[Node] = []

    def start(ca: pki.CertAndKey, *, wants_certificate: bool = True) -> Node:
        node = Node(ca, tmp_path, wants_certificate=wants_certificate).start()
        nodes.append(node)
        return node

    yield start
    for node in nodes:
        node.stop()


@pytest.fixture
def node_config() -> NodeConfig:
    return NodeConfig(
        cluster="home",
        name="node1",
        role="controlplane",
        mac="02:00:00:00:00:01",
        address="192.168.1.231",
        vip="192.168.1.230",
        subnet="192.168.1.0/24",
        talos="v1.13.9",
        kubernetes="v1.36.1",
        installer="factory.talos.dev/metal-installer/abc:v1.13.9",
        disk="/dev/mmcblk0",
    )
