"""HTTP to a BMC: every request ends within one deadline, whatever the other side does.

httpx's timeouts start anew with each read, so a body that comes byte by byte never ends. Its transport (httpcore)
lets the sockets be wrapped, which is where the deadline and the certificate's pin are kept here.
"""

from __future__ import annotations

import hashlib
import math
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpcore2
from httpcore2 import SOCKET_OPTION, NetworkBackend, NetworkStream

from providers.deadline import Deadline
from providers.errors import HomelabError, ProtocolError, RefusedError, UnreachableError, UserError

MAX_BODY_BYTES = 4 << 20  # far more than the longest answer (a UART's 16 KiB), far less than the memory
FINGERPRINT_TIMEOUT_S = 10.0


class CertificateError(RefusedError):
    """The board shows another certificate than the pinned one; nothing was sent to it."""


class ConnectionFaultError(UnreachableError):
    """The connection failed. `sent` says whether the request may have reached the device before."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    content_type: str
    body: bytes
    location: str = ""
    token: str = ""
    etag: str = ""

    @property
    def text(self) -> str:
        """The body as text; what is not UTF-8 is replaced."""
        return self.body.decode("utf-8", "replace")


@dataclass(frozen=True)
class Stall:
    """The longest times without one byte moving, in seconds: while sending, and until the answer comes."""

    send_s: float = math.inf
    answer_s: float = math.inf


@dataclass(frozen=True)
class _Budget:
    deadline: Deadline
    stall: Stall

    def left(self, error: type[Exception], stall_s: float = math.inf) -> float:
        seconds = min(stall_s, self.deadline.remaining)
        if seconds <= 0:
            raise error("the deadline has passed")
        return seconds


class _Bounded(NetworkStream):
    """A connection whose every read and write is bounded by the running request's budget."""

    def __init__(self, inner: NetworkStream, wire: Wire) -> None:
        self._inner = inner
        self._wire = wire

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        budget = self._wire.budget
        return self._inner.read(max_bytes, budget.left(httpcore2.ReadTimeout, budget.stall.answer_s))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        budget = self._wire.budget
        self._inner.write(buffer, budget.left(httpcore2.WriteTimeout, budget.stall.send_s))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> NetworkStream:
        left_s = self._wire.budget.left(httpcore2.ConnectTimeout)
        secured = self._inner.start_tls(ssl_context, server_hostname, left_s)
        try:
            self._wire.check_pin(secured.get_extra_info("ssl_object"))
        except HomelabError:
            secured.close()
            raise
        return _Bounded(secured, self._wire)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(NetworkBackend):
    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._inner = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> NetworkStream:
        left_s = self._wire.budget.left(httpcore2.ConnectTimeout)
        return _Bounded(self._inner.connect_tcp(host, port, left_s, local_address, socket_options), self._wire)


def lenient_tls() -> ssl.SSLContext:
    """TLS without a CA: a BMC signs its certificate itself, for 30 days and no name (facts A2)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class Wire:
    """Requests to one BMC over kept connections.

    Args:
        url: `http(s)://host[:port]`.
        fingerprint: SHA-256 of the certificate that the BMC must show, as hex with or without `sha256:` and colons.

    Raises:
        UserError: the URL or the fingerprint makes no sense.
    """

    def __init__(self, url: str, fingerprint: str | None) -> None:
        parts = urlsplit(url if "://" in url else f"https://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f"{url}: not the address of a board; write https://HOST or https://HOST:PORT")
        self.secure = parts.scheme == "https"
        self.name = f"{parts.scheme}://{parts.netloc}"
        self._origin = (parts.scheme.encode(), parts.hostname.encode("idna"), parts.port)
        self._pin = plain_fingerprint(fingerprint) if fingerprint else None
        if self._pin and not self.secure:
            raise UserError(
                f"{self.name}: a fingerprint needs https, and this address is plain http; remove one of them"
            )
        self._local = threading.local()
        self._pool = self._new_pool()

    @property
    def budget(self) -> _Budget:
        """What is left for this thread's request."""
        budget: _Budget = self._local.budget
        return budget

    def close(self) -> None:
        """Close the kept connections; the next request opens a new one."""
        self._pool.close()
        self._pool = self._new_pool()

    def request(
        self,
        method: str,
        target: str,
        deadline: Deadline,
        headers: Mapping[str, str] | None = None,
        content: bytes | Iterator[bytes] | None = None,
        stall: Stall = Stall(),
    ) -> Answer:
        """Ask once.

        Args:
            method: GET, POST, or another that the device knows.
            target: path and query as they are sent, without another percent-encoding.
            deadline: for the whole exchange.
            headers: beside Host and the length.
            content: the body; an iterator needs a Content-Length among the headers.
            stall: how long nothing may move.

        Raises:
            ConnectionFaultError: no connection, a cut one, or no full answer in time.
            ProtocolError: what came is not HTTP, or too long.
            CertificateError: the certificate is not the pinned one.
        """
        self._local.budget = _Budget(deadline, stall)
        url = httpcore2.URL(
            scheme=self._origin[0], host=self._origin[1], port=self._origin[2], target=target.encode("ascii")
        )
        with (
            self._translated(deadline),
            self._pool.stream(method, url, headers=list((headers or {}).items()), content=content) as response,
        ):
            found = {k.lower(): v.decode("latin-1") for k, v in response.headers}
            body = self._body(response)
        return Answer(
            response.status,
            found.get(b"content-type", ""),
            body,
            found.get(b"location", ""),
            found.get(b"x-auth-token", ""),
            found.get(b"etag", ""),
        )

    def check_pin(self, ssl_object: Any) -> None:
        """Compare the certificate with the pin, before anything is sent.

        Raises:
            CertificateError: another certificate.
        """
        if self._pin is None:
            return
        shown = hashlib.sha256(ssl_object.getpeercert(True) or b"").hexdigest()
        if shown != self._pin:
            raise CertificateError(
                f"{self.name}: shows another certificate than the pinned one, so nothing was sent to it. If the board "
                f"was reset or made itself a new one, set its fingerprint to sha256:{shown} in the settings; otherwise "
                f"find out what answers at this address"
            )

    def _new_pool(self) -> httpcore2.ConnectionPool:
        return httpcore2.ConnectionPool(
            ssl_context=lenient_tls(), max_keepalive_connections=1, keepalive_expiry=5.0, network_backend=_Backend(self)
        )

    def _body(self, response: httpcore2.Response) -> bytes:
        body = bytearray()
        for chunk in response.iter_stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise ProtocolError(f"{self.name}: an answer of more than {MAX_BODY_BYTES} bytes; this is not a BMC's")
        return bytes(body)

    @contextmanager
    def _translated(self, deadline: Deadline) -> Iterator[None]:
        try:
            yield
        except httpcore2.ConnectTimeout as error:
            raise ConnectionFaultError(
                f"{self.name}: no connection within {deadline.seconds:.3g} s", sent=False
            ) from error
        except httpcore2.TimeoutException as error:
            limit = f"within {deadline.seconds:.3g} s" if deadline.expired else "any more"
            what = "takes no bytes" if isinstance(error, httpcore2.WriteTimeout) else "gives no full answer"
            raise ConnectionFaultError(f"{self.name}: {what} {limit}", sent=True) from error
        except httpcore2.ConnectError as error:
            raise ConnectionFaultError(f"{self.name}: no connection ({error}){self.hint(error)}", sent=False) from error
        except (httpcore2.NetworkError, httpcore2.RemoteProtocolError) as error:
            if _is_nonsense(error):
                raise ProtocolError(f"{self.name}: answered something that is not HTTP ({error})") from error
            raise ConnectionFaultError(f"{self.name}: the connection was cut ({error})", sent=True) from error
        except (httpcore2.ProtocolError, UnicodeError) as error:
            raise ProtocolError(f"{self.name}: the exchange made no sense ({error})") from error

    def hint(self, error: Exception) -> str:
        """What an owner may have to write instead, to be put behind a connection's error."""
        if self.secure and "refused" in str(error).lower():
            return "; firmware 1.x speaks plain http: write the board's address with http:// if it runs that"
        if self.secure and ("WRONG_VERSION" in str(error) or "HTTP_REQUEST" in str(error)):
            return "; this port speaks no TLS: write the board's address with http://"
        return ""


def _is_nonsense(error: Exception) -> bool:
    text = str(error).lower()
    cut = "disconnected" in text or "peer closed" in text or "without sending" in text
    return isinstance(error, httpcore2.RemoteProtocolError) and not cut


def plain_fingerprint(text: str) -> str:
    """A SHA-256 fingerprint as 64 lower-case hex digits.

    Raises:
        UserError: it is none.
    """
    digits = text.strip().lower().removeprefix("sha256:").replace(":", "")
    if len(digits) != 64 or set(digits) - set("0123456789abcdef"):
        raise UserError(f"{text!r}: not a SHA-256 fingerprint; `homelab doctor` prints the one that the board shows")
    return digits


def certificate_fingerprint(url: str, timeout_s: float = FINGERPRINT_TIMEOUT_S) -> str:
    """The certificate that a board shows, as `sha256:HEX` for its settings; "plain http" for a board without one.

    Raises:
        UnreachableError: no TLS connection.
    """
    parts = urlsplit(url if "://" in url else f"https://{url}")
    if parts.scheme == "http":
        return "plain http"
    try:
        with (
            socket.create_connection((parts.hostname or "", parts.port or 443), timeout_s) as plain,
            lenient_tls().wrap_socket(plain, server_hostname=parts.hostname) as secured,
        ):
            return "sha256:" + hashlib.sha256(secured.getpeercert(True) or b"").hexdigest()
    except (OSError, ValueError) as error:
        raise UnreachableError(f"{url}: no TLS connection ({error})") from error
