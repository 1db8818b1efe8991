"""Whatever a server says after the TLS handshake: a clear error of ours in time, no hang, no foreign exception."""

import contextlib
import random
import socket
import ssl
import struct
import threading
import time

import pytest

from providers.errors import HomelabError
from providers.talos.client import Mode, Talos, probe

from .conftest import HOST, server_certificate

SETTINGS = b"\0\0\0\4\0\0\0\0\0"
HEADERS_OK = b"\x88\x5f\x10application/grpc"  # :status 200, content-type


def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body


def message(body: bytes) -> bytes:
    return b"\0" + struct.pack(">I", len(body)) + body


def noise(seed: int) -> bytes:
    return random.Random(seed).randbytes(400)


ANSWERS = {
    "nothing": b"",
    "goodbye": SETTINGS + frame(7, 0, 0, struct.pack(">II", 0, 0)),
    "reset_stream": SETTINGS + frame(3, 0, 1, struct.pack(">I", 2)),
    "half_a_frame": SETTINGS + b"\0\0\x50\0",
    "no_grpc": SETTINGS + frame(1, 5, 1, b"\x88"),
    "not_found": SETTINGS + frame(1, 5, 1, b"\x8d"),
    "garbage_message": SETTINGS + frame(1, 4, 1, HEADERS_OK) + frame(0, 1, 1, message(b"\xff" * 9)),
    "half_a_message": SETTINGS + frame(1, 4, 1, HEADERS_OK) + frame(0, 1, 1, b"\0\0\0\1\0abc"),
    "compressed": SETTINGS + frame(1, 4, 1, HEADERS_OK) + frame(0, 1, 1, b"\1\0\0\0\1a"),
    "huge_message": SETTINGS + frame(1, 4, 1, HEADERS_OK) + frame(0, 0, 1, b"\0\xff\xff\xff\xffabc"),
    "bad_headers": SETTINGS + frame(1, 4, 1, b"\xff\xff\xff\xff\xff"),
    "wrong_stream": SETTINGS + frame(1, 4, 99, HEADERS_OK),
    "http1": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    **{f"noise{seed}": noise(seed) for seed in range(12)},
    **{f"noise{seed}_after_settings": SETTINGS + noise(seed) for seed in range(12)},
}


@pytest.fixture(scope="module")
def context(bundle, tmp_path_factory):
    pem = tmp_path_factory.mktemp("tls") / "server.pem"
    pem.write_text(server_certificate(bundle.os))
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found.load_cert_chain(pem)
    found.set_alpn_protocols(["h2"])
    return found


@contextlib.contextmanager
def saying(context, answer, *, hang_up):
    """A server that answers every connection with the same bytes, and then hangs up or keeps silent."""
    with socket.create_server((HOST, 0)) as server:
        ended = threading.Event()

        def serve() -> None:
            with contextlib.suppress(OSError):
                while not ended.is_set():
                    raw, _ = server.accept()
                    raw.settimeout(2)
                    with raw, contextlib.suppress(OSError), context.wrap_socket(raw, server_side=True) as connection:
                        connection.recv(65536)
                        connection.sendall(answer)
                        if not hang_up:
                            ended.wait(2)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"{HOST}:{server.getsockname()[1]}"
        finally:
            ended.set()
            server.shutdown(socket.SHUT_RDWR)
            thread.join(5)


@pytest.mark.parametrize("hang_up", [True, False], ids=["then_gone", "then_silent"])
@pytest.mark.parametrize("name", ANSWERS)
def test_a_clear_error_in_time(context, bundle, name, hang_up):
    begin = time.monotonic()
    with (
        saying(context, ANSWERS[name], hang_up=hang_up) as address,
        Talos.secure(address, bundle.issue_client()) as talos,
    ):
        with pytest.raises(HomelabError) as caught:
            talos.version(timeout_s=0.3)
        assert time.monotonic() - begin < 2
    assert address in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ANSWERS)
def test_the_probe_too(context, other_ca, bundle, name):
    with saying(context, ANSWERS[name], hang_up=True) as address:
        assert probe(address, bundle.issue_client(), timeout_s=1) is Mode.OURS
        with contextlib.suppress(HomelabError):
            assert probe(address, None, timeout_s=0.5) in (Mode.MAINTENANCE, Mode.FOREIGN, Mode.SILENT)
