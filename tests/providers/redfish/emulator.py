"""The emulator of sushy-tools as a process of the test's own, and a small hostile service for what it never does."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.server
import json
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from providers.redfish.client import Endpoint, Redfish
from tests.ports import free_port

UUID = "27946b59-9e44-4fa7-8e91-f3527a1ef094"
OTHER = "4c1ab61c-9a6c-4a0e-8f5e-0a5d8a3c2b11"
MACS = ("52:54:00:aa:bb:01", "52:54:00:aa:bb:02")


@dataclass(frozen=True)
class Emulator:
    """A running emulator."""

    url: str
    fingerprint: str = ""

    def client(self, password: str = "right", timeout_s: float = 10.0, **more: Any) -> Redfish:
        return Redfish.connect(Endpoint(self.url, "admin", password, **more), timeout_s)


def program() -> str:
    """The emulator's command, beside the interpreter that runs the tests."""
    found = shutil.which("sushy-emulator", path=str(Path(sys.executable).parent)) or shutil.which("sushy-emulator")
    if found is None:
        pytest.skip("sushy-tools is not installed (requirements-dev.txt)")
    return found


@contextlib.contextmanager
def emulator(
    folder: Path,
    *,
    systems: tuple[str, ...] = (UUID,),
    tls: bool = False,
    boxes: Mapping[str, str] | None = None,
    notified: str = "",
) -> Iterator[Emulator]:
    """Start one on a port of its own; with `tls`, it wants the user `admin` with the password `right`.

    Args:
        folder: for its files.
        systems: the machines' UUIDs, all with the same cards.
        tls: whether it speaks TLS and wants a login.
        boxes: more machines, UUID -> MAC address, of whose power it tells.
        notified: the URL that it tells it.
    """
    port = free_port()
    config: dict[str, Any] = {
        "SUSHY_EMULATOR_LISTEN_IP": "127.0.0.1",
        "SUSHY_EMULATOR_LISTEN_PORT": port,
        "SUSHY_EMULATOR_FAKE_DRIVER": True,
        "SUSHY_EMULATOR_STATE_DIR": str(folder),
        "SUSHY_EMULATOR_FAKE_SYSTEMS": [
            {"uuid": uuid, "name": f"box{i}", "power_state": "Off", "nics": [{"mac": m, "ip": ""} for m in MACS]}
            for i, uuid in enumerate(systems)
        ],
        "EXTERNAL_NOTIFICATION_URL": notified,
    }
    config["SUSHY_EMULATOR_FAKE_SYSTEMS"] += [
        {"uuid": uuid, "name": uuid[:8], "power_state": "Off", "nics": [{"mac": mac, "ip": ""}],
         "external_notifier": True}
        for uuid, mac in (boxes or {}).items()
    ]  # fmt: skip
    fingerprint = ""
    if tls:
        fingerprint = certificate(folder)
        config |= {
            "SUSHY_EMULATOR_SSL_CERT": str(folder / "crt.pem"),
            "SUSHY_EMULATOR_SSL_KEY": str(folder / "key.pem"),
        }
        config |= {"SUSHY_EMULATOR_AUTH_FILE": str(folder / "htpasswd")}
        bcrypt = pytest.importorskip("bcrypt")
        digest = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
        (folder / "htpasswd").write_text(f"admin:{digest}\n")
    (folder / "emulator.conf").write_text("".join(f"{key} = {value!r}\n" for key, value in config.items()))
    with (folder / "emulator.log").open("wb") as log:
        process = subprocess.Popen(
            [program(), "--config", str(folder / "emulator.conf")],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder,
        )  # fmt: skip
        try:
            _listening(port, process, folder / "emulator.log")
            yield Emulator(f"{'https' if tls else 'http'}://127.0.0.1:{port}", fingerprint)
        finally:
            process.terminate()
            process.wait(10)


def _listening(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise AssertionError(f"the emulator does not listen: {log.read_text()[-2000:]}")


def certificate(folder: Path) -> str:
    """Write a self-signed certificate; gives its fingerprint."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bmc")])
    begin = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
        .not_valid_before(begin).not_valid_after(begin + dt.timedelta(days=9000)).sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "crt.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / "key.pem").write_bytes(pem)
    return "sha256:" + made.fingerprint(hashes.SHA256()).hex()


@dataclass
class Reply:
    """What the hostile service answers; `cut` ends the connection instead."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


@dataclass
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Hostile:
    """A service whose answers the test writes."""

    answer: Callable[[Asked], Reply]
    url: str = ""
    asked: list[Asked] = field(default_factory=list)

    def client(self, timeout_s: float = 3.0, password: str = "hunter2-secret", **more: Any) -> Redfish:
        return Redfish.connect(Endpoint(self.url, "admin", password, **more), timeout_s)

    def count(self, method: str, path: str) -> int:
        return sum((one.method, one.path) == (method, path) for one in self.asked)


@contextlib.contextmanager
def hostile(folder: Path, answer: Callable[[Asked], Reply], *, tls: bool = True) -> Iterator[Hostile]:
    service = Hostile(answer)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            raw = self.rfile.read(length)
            asked = Asked(
                self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, json.loads(raw or b"null")
            )
            service.asked.append(asked)
            reply = service.answer(asked)
            self.close_connection = True
            if reply.cut:
                with contextlib.suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)
                return
            text = isinstance(reply.body, str)
            body = b"" if reply.body is None else (reply.body if text else json.dumps(reply.body)).encode()
            self.send_response(reply.status)
            headers = {"Content-Type": "text/html" if text else "application/json", **reply.headers}
            for name, value in {**headers, "Content-Length": str(len(body)), "Connection": "close"}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = do_DELETE = _any  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    if tls:
        certificate(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "crt.pem", folder / "key.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    service.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
