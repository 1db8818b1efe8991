"""The rendered files, read by the real HAProxy and the real keepalived; HAProxy also runs and balances."""

import http.server
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from providers.balancer.config import Front, Sharing, haproxy, keepalived
from tests.ports import free_port
from tests.providers.balancer.certificate import self_signed

needs_haproxy = pytest.mark.skipif(shutil.which("haproxy") is None, reason="the package haproxy is not installed")
needs_keepalived = pytest.mark.skipif(
    shutil.which("keepalived") is None, reason="the package keepalived is not installed"
)
CHECK_S = 0.2
NAMES = ("cp1", "cp2", "cp3")
SHARING = Sharing("10.0.0.5", 5, "eth0", "10.0.0.11", ["10.0.0.13", "10.0.0.12"], 150)


class ApiServer:
    """Says its name over TLS, and what is wished at /readyz."""

    def __init__(self, name: str, pem: Path) -> None:
        self.name, self.port, self.ready = name, free_port(), True
        outer = self

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                ready = self.path != "/readyz" or outer.ready
                self.send_response(200 if ready else 500)
                self.end_headers()
                self.wfile.write(outer.name.encode())

            def log_message(self, *_: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """Probes hang up in the middle; that is no error of the test."""

        self._server = Server(("127.0.0.1", self.port), Answer)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Balancer:
    """A running HAProxy, and a client of what is behind it."""

    def __init__(self, front: Front, pem: Path) -> None:
        self.front, self._trust = front, ssl.create_default_context(cafile=str(pem))

    def asked(self) -> str:
        with urllib.request.urlopen(f"https://{self.front.bind}/", context=self._trust, timeout=5) as answer:
            return str(answer.read().decode())

    def spread(self, times: int = 12) -> Counter[str]:
        return Counter(self.asked() for _ in range(times))

    def until(self, names: set[str], limit_s: float = 10.0) -> float:
        """Seconds until exactly these answer, and nothing fails."""
        begin = time.monotonic()
        while time.monotonic() - begin < limit_s:
            try:
                if set(self.spread(2 * len(NAMES))) == names:
                    return time.monotonic() - begin
            except (OSError, urllib.error.URLError):
                pass
            time.sleep(0.05)
        raise AssertionError(f"not {names} within {limit_s} s")

    def status(self, path: str) -> tuple[int, str]:
        with urllib.request.urlopen(f"http://{self.front.status}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()


@contextmanager
def running(config: Path) -> Iterator[None]:
    process = subprocess.Popen(["haproxy", "-f", str(config), "-db"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.terminate()
        process.communicate(timeout=10)


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    return self_signed(tmp_path / "server.pem")


@pytest.fixture
def servers(pem: Path) -> Iterator[dict[str, ApiServer]]:
    made = {name: ApiServer(name, pem) for name in NAMES}
    yield made
    for server in made.values():
        server.end()


@pytest.fixture
def balancer(servers: dict[str, ApiServer], pem: Path, tmp_path: Path) -> Iterator[Balancer]:
    front = Front(
        "lab",
        f"127.0.0.1:{free_port()}",
        {name: f"127.0.0.1:{server.port}" for name, server in servers.items()},
        f"127.0.0.1:{free_port()}",
        user="",
    )
    config = tmp_path / "haproxy.cfg"
    config.write_text(haproxy(front, check_s=CHECK_S))
    with running(config):
        yield Balancer(front, pem)


@needs_haproxy
def test_requests_go_round_among_all_that_are_ready(balancer: Balancer):
    balancer.until(set(NAMES))
    spread = balancer.spread(12)
    assert spread == dict.fromkeys(NAMES, 4)


@needs_haproxy
def test_a_server_that_dies_gets_no_more_and_the_others_take_over(balancer: Balancer, servers: dict[str, ApiServer]):
    balancer.until(set(NAMES))
    servers["cp2"].end()
    assert balancer.until({"cp1", "cp3"}) < 5
    assert set(balancer.spread()) == {"cp1", "cp3"}


@needs_haproxy
def test_a_server_that_is_not_ready_is_out_until_it_is_again(balancer: Balancer, servers: dict[str, ApiServer]):
    balancer.until(set(NAMES))
    servers["cp1"].ready = False
    balancer.until({"cp2", "cp3"})
    servers["cp1"].ready = True
    balancer.until(set(NAMES))


@needs_haproxy
def test_its_own_word_for_keepalived_does_not_hang_on_the_api_servers(
    balancer: Balancer, servers: dict[str, ApiServer]
):
    for server in servers.values():
        server.ready = False
    time.sleep(5 * CHECK_S)
    assert balancer.status("/alive")[0] == 200
    assert "haproxy_backend_active_servers" in balancer.status("/metrics")[1]


@needs_haproxy
def test_the_file_of_a_host_is_valid(tmp_path: Path):
    config = tmp_path / "haproxy.cfg"
    front = Front("lab", "10.0.0.5:6443", {"cp1": "10.0.0.11:6443"})
    config.write_text(haproxy(front).replace("user haproxy", f"user {_somebody()}").replace("group haproxy", ""))
    done = subprocess.run(["haproxy", "-c", "-f", str(config)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in (done.stdout + done.stderr).lower()


def _somebody() -> str:
    import getpass

    return getpass.getuser()


@needs_keepalived
def test_keepalived_takes_its_file(tmp_path: Path):
    interface = next((name for _, name in socket.if_nameindex() if name != "lo"), None)
    if interface is None:
        pytest.skip("there is no network interface besides the loopback, and keepalived takes no VIP there")
    config = tmp_path / "keepalived.conf"
    config.write_text(keepalived("lab", replace(SHARING, interface=interface)))
    done = subprocess.run(["keepalived", "-t", "-f", str(config)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_host_that_shares_with_nobody_has_no_peers():
    alone = keepalived("lab", Sharing("10.0.0.5", 5, "eth0", "10.0.0.11", [], 150))
    assert "unicast_peer" not in alone
    assert "nopreempt" in alone


def test_the_check_has_no_weight_because_nopreempt_would_keep_a_dead_master():
    assert "weight" not in keepalived("lab", SHARING)


def test_the_order_of_backends_does_not_depend_on_the_settings():
    one, other = (dict.fromkeys(names, "10.0.0.1:6443") for names in (("a", "b"), ("b", "a")))
    assert haproxy(Front("lab", "*:6443", one)) == haproxy(Front("lab", "*:6443", other))
