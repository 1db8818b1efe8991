"""Which mode a node is in, seen from outside (4b.16)."""

import contextlib
import gc
import socket
import struct
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from providers.errors import ProtocolError
from providers.talos.client import Mode, probe

HOST = "127.106.0.1"


@pytest.fixture
def listener():
    """A TCP server that hands each connection to `listener.serve`; `address` is where."""
    with socket.create_server((HOST, 0)) as server:
        yield server


def address(server):
    return f"{HOST}:{server.getsockname()[1]}"


def serve(server, *actions):
    def run():
        for action in actions:
            try:
                connection, _ = server.accept()
            except OSError:
                return  # the test is over, and its listener is closed
            with connection:
                action(connection)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_ours(start_node, bundle):
    assert probe(start_node(bundle.os).address, bundle.issue_client()) is Mode.OURS


def test_foreign_though_its_ca_has_the_same_name(start_node, other_ca, bundle):
    assert probe(start_node(other_ca).address, bundle.issue_client()) is Mode.FOREIGN


def test_maintenance_with_and_without_credentials(start_node, other_ca, bundle):
    node = start_node(other_ca, wants_certificate=False)
    assert probe(node.address, bundle.issue_client()) is Mode.MAINTENANCE
    assert probe(node.address) is Mode.MAINTENANCE


def test_configured_and_no_credentials_at_hand(start_node, bundle):
    assert probe(start_node(bundle.os).address) is Mode.FOREIGN


def test_refused(start_node, bundle):
    node = start_node(bundle.os)
    node.stop()
    assert probe(node.address, bundle.issue_client()) is Mode.REFUSED


def test_a_host_that_accepts_and_says_nothing_is_silent_in_time(listener, bundle):
    begin = time.monotonic()
    assert probe(address(listener), bundle.issue_client(), timeout_s=0.3) is Mode.SILENT
    assert time.monotonic() - begin < 0.6


def test_packets_that_vanish(bundle):
    """A listener whose queue is full drops what comes, like a host that is not there."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind((HOST, 0))
        full.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        assert probe(address(full), bundle.issue_client(), timeout_s=0.3) is Mode.SILENT


def test_hanging_up_during_the_handshake_is_a_node_on_its_way(listener, bundle):
    thread = serve(listener, lambda connection: connection.recv(1))
    assert probe(address(listener), bundle.issue_client()) is Mode.REFUSED
    thread.join(5)


def test_no_tls(listener):
    thread = serve(listener, lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n" + b"x" * 100))
    with pytest.raises(ProtocolError, match="not the Talos API"):
        probe(address(listener))
    thread.join(5)


def test_many_at_once(start_node, other_ca, bundle):
    cert = bundle.issue_client()
    nodes = [start_node(bundle.os), start_node(other_ca), start_node(other_ca, wants_certificate=False)]
    with ThreadPoolExecutor(12) as pool:
        modes = list(pool.map(lambda node: probe(node.address, cert, timeout_s=10), nodes * 8))
    assert modes == [Mode.OURS, Mode.FOREIGN, Mode.MAINTENANCE] * 8


def test_a_peer_that_hangs_up_at_once_leaves_no_socket_open(listener, monkeypatch):
    """As a node does that reboots just then. Only a few of a hundred connections meet the moment."""
    left: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", left.append)
    reset = struct.pack("ii", 1, 0)
    serve(listener, *[lambda it: it.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)] * 1000)
    for _ in range(300):
        with contextlib.suppress(ProtocolError):
            assert probe(address(listener)) is not Mode.OURS
    gc.collect()
    assert left == []
