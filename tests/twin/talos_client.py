"""A bare gRPC client for tests of the twin's Talos API."""

import ssl
from types import TracebackType
from typing import Any, Self

from google.protobuf.empty_pb2 import Empty
from grpclib.client import Channel, UnaryStreamMethod, UnaryUnaryMethod

from twin.talos import methods
from twin.talos.pki import Pair, client_context


def insecure() -> ssl.SSLContext:
    """What `--insecure` does: no verification, no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context


class Node:
    """One node's API; a context manager. Without a certificate it connects as to maintenance mode."""

    def __init__(self, address: str, ca: bytes = b"", leaf: Pair | None = None) -> None:
        context = client_context(ca, leaf, http2=True) if ca else insecure()
        self._channel = Channel(address, 50000, ssl=context)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    async def call(self, name: str, request: Any = None, timeout_s: float = 10, **metadata: str) -> Any:
        """Call a method by its bare name; streams come as a list."""
        path = next(path for path in methods.table() if path.endswith(f"/{name}"))
        method = methods.table()[path]
        message = Empty() if request is None else request
        if method.streams:
            stream = UnaryStreamMethod(self._channel, path, method.request, method.reply)
            return await stream(message, timeout=timeout_s, metadata=metadata)
        unary = UnaryUnaryMethod(self._channel, path, method.request, method.reply)
        return await unary(message, timeout=timeout_s, metadata=metadata)
