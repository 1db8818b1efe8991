"""A control plane's servers start anew with new keys. Stand-ins for them show what they were started with."""

from __future__ import annotations

import asyncio
import os
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from providers.deadline import Deadline
from providers.errors import HomelabError
from providers.kubernetes.client import Kube
from providers.talos.rotation import NONE
from providers.talos.secrets import kubeconfig
from tests.providers.talos.rotating import Lab
from tests.twin.talos_scene import Scene
from twin.kubernetes.controlplane import ControlPlane
from twin.talos.config import parse

# Like the real one as far as these tests look: its certificate, whom it lets in, when it began.
SERVER = """
    import http.server, ssl, sys, time
    BEGAN = time.time()
    flags = dict(word.removeprefix("--").split("=", 1) for word in sys.argv[1:])
    if "tls-cert-file" not in flags:
        time.sleep(3600)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, text, code=200):
            self.send_response(code)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def do_GET(self):
            if self.path == "/metrics":
                return self.answer(f"process_start_time_seconds {BEGAN}\\n")
            return self.answer("ok" if self.path == "/readyz" else '{"items": []}')

        def do_POST(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.answer("{}", 201)

        def log_message(self, *words):
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(flags["tls-cert-file"], flags["tls-private-key-file"])
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(flags["client-ca-file"])
    server = http.server.ThreadingHTTPServer((flags["bind-address"], int(flags["secure-port"])), Handler)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.serve_forever(0.05)
"""
NAMES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setenv("HOMELAB_TIME_SCALE", "0.01")
    tools = tmp_path / "tools"
    (tools / "bin").mkdir(parents=True)
    for name in NAMES:
        path = tools / "bin" / name
        path.write_text(f"#!{sys.executable} -I\n{textwrap.dedent(SERVER)}")
        os.chmod(path, 0o700)  # noqa: PTH101
    scene = Scene(1, tools=tools)
    try:
        made = Lab(scene, {"m1": "controlplane"})
        begin(made)
        yield made
    finally:
        scene.close()


def begin(lab: Lab) -> None:
    """Start the servers, as the system does once etcd is there."""
    system = lab.scene.system("m1")

    def start() -> None:
        system.control_plane = ControlPlane(system)
        system.job(system.control_plane.run(), "control plane")

    lab.scene.do(start)
    lab.scene.until(lambda: system.control_plane is not None and system.control_plane.began)


def starts(lab: Lab) -> dict[str, int]:
    """The process ids of the servers."""
    plane = lab.scene.system("m1").control_plane
    found = plane._processes if plane is not None else {}
    return {name: process._child.pid for name, process in found.items() if process._child is not None}


def lets_in(lab: Lab) -> bool:
    """Whether the API server and an administrator with the present keys know each other."""
    access = kubeconfig("x", f"https://{lab.addresses['m1']}:6443", lab.bundle.issue_kubernetes_admin())
    try:
        with Kube(access, timeout_s=5) as kube:
            return kube.healthy()
    except HomelabError:
        return False


def test_each_step_of_the_kubernetes_authority_starts_them_anew(lab: Lab) -> None:
    assert lets_in(lab)
    first = lab.bundle
    for step in (1, 2, 3):
        before = starts(lab)
        lab.step(step, "kubernetes-ca")
        lab.give("m1")  # returns when the API server was started anew and is ready
        assert lets_in(lab)
        after = starts(lab)
        assert before["kube-apiserver"] != after["kube-apiserver"]
    lab.bundle, last = first, lab.bundle
    assert not lets_in(lab)
    lab.bundle = last


@pytest.mark.parametrize(
    ("what", "restarted"),
    [
        ("os-ca", set()),
        ("aggregator-ca", {"kube-apiserver"}),
        ("service-account", {"kube-apiserver", "kube-controller-manager"}),
    ],
)
def test_only_those_that_use_a_key_start_anew(lab: Lab, what: str, restarted: set[str]) -> None:
    before = starts(lab)
    lab.rotation = NONE
    lab.step(1, what)
    lab.give("m1")
    Deadline(20).poll(lambda: set(starts(lab)) == set(NAMES) or None, "all servers", 0.05)

    def changed() -> set[str]:
        return {name for name, pid in starts(lab).items() if pid != before[name]}

    Deadline(20).poll(lambda: changed() == restarted or None, f"{restarted} started anew", 0.05)
    assert lets_in(lab)


def test_a_second_change_in_the_middle_of_the_first_is_not_lost(lab: Lab) -> None:
    system = lab.scene.system("m1")
    lab.step(1, "kubernetes-ca")
    one = lab.config("m1").encode()
    lab.step(2, "kubernetes-ca")
    two = lab.config("m1").encode()

    async def take() -> None:
        await system.take(parse(one))
        await system.take(parse(two))

    lab.scene.run(take())
    Deadline(30).poll(lambda: lets_in(lab) or None, "the API server with the new authority", 0.1)


def test_a_power_cut_while_servers_start_anew_leaves_none_running(lab: Lab) -> None:
    system, machine = lab.scene.system("m1"), lab.scene.machines["m1"]
    config = yaml.safe_load(lab.config("m1").split("---")[0])
    for part in ("apiServer", "controllerManager", "scheduler"):
        config["cluster"].setdefault(part, {})["extraArgs"] = {"v": "1"}

    async def cut_in_the_middle() -> None:
        taking = asyncio.ensure_future(system.take(parse(yaml.safe_dump(config).encode())))
        await asyncio.sleep(0)  # it waits for the first server to end
        machine.power_off()
        await asyncio.wait([taking], timeout=2)

    plane = system.control_plane
    assert plane is not None
    assert set(starts(lab)) == set(NAMES)
    lab.scene.run(cut_in_the_middle())
    assert not any(process.running for process in plane._processes.values())
