"""A server that answers one thing, so that every way to go wrong can be told apart."""

from __future__ import annotations

import base64
import datetime as dt
import http.server
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOST = "127.107.0.1"


class Authority:
    """A CA that issues what a test needs."""

    def __init__(self, name: str = "kubernetes") -> None:
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._sign(self._name, self._key, x509.BasicConstraints(ca=True, path_length=None))
        self.pem, self.key = _pem(self._certificate), _key_pem(self._key)

    def issue(self, name: str, organization: str = "", addresses: tuple[str, ...] = ()) -> tuple[str, str]:
        """A certificate and its key, PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        if organization:
            subject.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
        extensions: list[x509.ExtensionType] = [
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])
        ]
        if addresses:
            extensions.append(x509.SubjectAlternativeName([x509.IPAddress(ip_address(a)) for a in addresses]))
        return _pem(self._sign(x509.Name(subject), key, *extensions)), _key_pem(key)

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *extensions: x509.ExtensionType
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self._key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    ).decode()


def kubeconfig(authority: Authority, server: str, user: str = "admin", organization: str = "system:masters") -> str:
    """What `homelab up` writes, for a test's server. JSON is YAML."""
    certificate, key = authority.issue(user, organization)
    data = {
        "certificate-authority-data": _b64(authority.pem),
        "server": server,
    }
    keys = {"client-certificate-data": _b64(certificate), "client-key-data": _b64(key)}
    return json.dumps(
        {
            "clusters": [{"name": "c", "cluster": data}],
            "users": [{"name": "u", "user": keys}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
    )


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@contextmanager
def answering(
    status: int, body: str | Callable[[], str], authority: Authority | None = None, folder: Path | None = None
) -> Iterator[str]:
    """A server that gives one answer to everything, on TLS if it has an authority. Yields its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            payload = (body if isinstance(body, str) else body()).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer((HOST, 0), Handler)
    server.daemon_threads = True
    scheme = "http"
    if authority and folder:
        scheme = "https"
        certificate, key = authority.issue("server", addresses=(HOST,))
        pem = folder / "server.pem"
        pem.write_text(certificate + key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"{scheme}://{HOST}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def status(code: int, message: str) -> str:
    """A v1 Status, as the API server writes them."""
    return json.dumps({"kind": "Status", "apiVersion": "v1", "message": message, "code": code})
