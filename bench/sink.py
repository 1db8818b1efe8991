"""A BMC that takes an image over TLS as fast as it comes and keeps none of it. Prints its address, runs until killed.

It answers the few questions that a flash asks, with firmware 2.1's words, and is no more honest than that: how a real
one behaves is the twin's to play.
"""

from __future__ import annotations

import json
import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

HANDLE = 7
POWER = {f"node{slot}": 1 for slot in range(1, 5)}
MODULES = [{"name": "", "module_name": "RK1", "power_on_time": 1, "uart_baud": 115200} for _ in range(4)]


class Sink(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    length: ClassVar[int] = 0
    state: ClassVar[Any] = "Ready"

    def do_GET(self) -> None:  # the standard library's name
        """A question or a command."""
        query = parse_qs(urlsplit(self.path).query)
        kind, setting = query["type"][0], query["opt"][0] == "set"
        if setting and kind == "flash":
            Sink.length = int(query["length"][0])
            shown = {"id": HANDLE, "process_name": "sink", "size": Sink.length, "cancelled": False, "bytes_written": 0}
            Sink.state = {"Transferring": shown}
            self._answer({"handle": HANDLE})
        elif kind == "flash":
            self._answer(Sink.state)
        else:
            result: Any = "ok" if setting else {"power": [POWER], "node_info": MODULES}.get(kind, "")
            self._answer({"response": [{"result": result}]})

    def do_POST(self) -> None:  # the standard library's name
        """The upload: read to its end, and dropped."""
        left, buffer = int(self.headers["Content-Length"]), memoryview(bytearray(1 << 20))
        while left:
            got = self.rfile.readinto1(buffer[: min(left, len(buffer))])
            if not got:
                return
            left -= got
        Sink.state = {"Done": [{"secs": 1, "nanos": 0}, Sink.length]}
        self._answer({})

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _context() -> ssl.SSLContext:
    key, now = rsa.generate_private_key(65537, 2048), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sink")])
    built = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(1))
    certificate = built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    plain = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "both.pem"
        path.write_bytes(plain + certificate)
        context.load_cert_chain(path)
    return context


def main() -> None:
    """Serve on a free port of 127.0.0.1."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    server.socket = _context().wrap_socket(server.socket, server_side=True)
    print(f"https://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
