"""A real client boots through the real dnsmasq and an HTTP server, in network namespaces of the test's own."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from providers.netboot import dnsmasq, scripts
from providers.netboot.plan import Approval, Loaders, Mode, Pool, Service
from tests.providers.netboot.boots import (
    CONFIG,
    IMAGE,
    LOADERS,
    MAC,
    UNKNOWN,
    http_server,
    machine,
    needs,
    needs_namespaces,
    pool,
    requests,
    running,
    service,
    until,
    write,
)

ADDRESS, PORT = "10.77.0.2", 8080
OWN = [
    (f"GET /{path}", 200)
    for path in (
        "boot.ipxe",
        "mac/52-54-00-12-34-56.ipxe",
        "images/debian-7/kernel",
        "images/debian-7/initramfs",
        CONFIG,
    )
]


@pytest.fixture
def net() -> Iterator[tuple[str, str]]:
    """Two namespaces on one segment: the boot service's, where machines are plugged in, and a router's."""
    needs("qemu-system-x86_64", "dnsmasq")
    needs_namespaces()
    here, router = f"homelab-{os.getpid()}", f"homelab-{os.getpid()}-r"
    with contextlib.ExitStack() as stack:
        for name in (here, router):
            _ip("netns", "add", name)
            stack.callback(_ip, "netns", "del", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", here, "link", "add", "br0", "type", "bridge")
        _ip("-n", here, "tuntap", "add", "tap0", "mode", "tap")
        _ip("-n", here, "link", "add", "up0", "type", "veth", "peer", "name", "lan0", "netns", router)
        for port in ("tap0", "up0"):
            _ip("-n", here, "link", "set", port, "master", "br0", "up")
        _ip("-n", here, "addr", "add", f"{ADDRESS}/24", "dev", "br0")
        _ip("-n", here, "link", "set", "br0", "up")
        _ip("-n", router, "addr", "add", "10.77.0.1/24", "dev", "lan0")
        _ip("-n", router, "link", "set", "lan0", "up")
        yield here, router


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _inside(name: str, *command: str) -> list[str]:
    return ["ip", "netns", "exec", name, *command]


def _dnsmasq(name: str, file: Path, text: str) -> list[str]:
    file.write_text(text, encoding="utf-8")
    return _inside(name, "dnsmasq", "-k", "-u", "root", "-C", str(file))


ROUTER = """\
port=0
interface=lan0
bind-interfaces
dhcp-range=10.77.0.100,10.77.0.150,255.255.255.0,1h
dhcp-leasefile=/dev/null
pid-file=
log-facility=-
"""


@contextlib.contextmanager
def _serving(net: tuple[str, str], folder: Path, boot: Service, pools: list[Pool]) -> Iterator[None]:
    here, router = net
    root = folder / "root"
    write(root, scripts.tree(boot, pools))
    (folder / "http.log").touch()
    text = dnsmasq.config(boot, pools) + f"dhcp-leasefile={folder}/leases\n"
    with contextlib.ExitStack() as stack:
        if boot.mode is Mode.PROXY:
            stack.enter_context(running(_dnsmasq(router, folder / "router.conf", ROUTER), folder / "router.log"))
        stack.enter_context(running(_dnsmasq(here, folder / "dnsmasq.conf", text), folder / "dnsmasq.log"))
        stack.enter_context(running(_inside(here, *http_server(root, ADDRESS, PORT)), folder / "http.log"))
        yield


def _boot_service(mode: Mode) -> Service:
    given = {"first": IPv4Address("10.77.0.100"), "last": IPv4Address("10.77.0.150")} if mode is Mode.FULL else {}
    return service(
        ADDRESS,
        PORT,
        mode=mode,
        interface="br0" if mode is Mode.PROXY else "",
        tftp_root=str(LOADERS),
        loaders=Loaders(efi64="snponly.efi"),
        **given,
    )


def _client(net: tuple[str, str], mac: str, screen: Path) -> list[str]:
    return _inside(net[0], *machine(mac, ["-netdev", "tap,id=n0,ifname=tap0,script=no,downscript=no"], screen))


@pytest.mark.parametrize(
    "mode", [pytest.param(Mode.PROXY, id="proxy"), pytest.param(Mode.FULL, id="full", marks=pytest.mark.slow)]
)
def test_a_machine_boots_by_dhcp_and_http(net: tuple[str, str], tmp_path: Path, mode: Mode):
    with _serving(net, tmp_path, _boot_service(mode), [pool()]):
        subprocess.run(_client(net, MAC, tmp_path / "screen"), stdin=subprocess.DEVNULL, timeout=90, check=True)
    assert requests(tmp_path / "http.log") == OWN
    assert "pool-workers" in (tmp_path / "dnsmasq.log").read_text()
    if mode is Mode.FULL:
        assert "node7" in (tmp_path / "leases").read_text()


@pytest.mark.slow
def test_a_machine_of_nobody_is_left_alone(net: tuple[str, str], tmp_path: Path):
    """It asked, was ignored, and goes on to its next boot device without a word to the HTTP server."""
    screen = tmp_path / "screen"
    with (
        _serving(net, tmp_path, _boot_service(Mode.PROXY), [pool()]),
        running(_client(net, UNKNOWN, screen), tmp_path / "qemu.log"),
    ):
        until(lambda: "No bootable" in (screen.read_text(errors="replace") if screen.exists() else ""), 60, "its end")
        assert f"{UNKNOWN} proxy-ignored" in (tmp_path / "dnsmasq.log").read_text()
    assert requests(tmp_path / "http.log") == []


@pytest.mark.slow
def test_a_machine_of_nobody_joins_by_itself_where_that_is_set(net: tuple[str, str], tmp_path: Path):
    catch_all = Pool("new", IMAGE, approval=Approval.AUTOMATIC, config=CONFIG)
    with _serving(net, tmp_path, _boot_service(Mode.FULL), [catch_all]):
        subprocess.run(_client(net, UNKNOWN, tmp_path / "screen"), stdin=subprocess.DEVNULL, timeout=90, check=True)
    asked = requests(tmp_path / "http.log")
    assert asked[1] == ("GET /mac/52-54-00-99-99-99.ipxe", 404)
    assert asked[-1] == (f"GET /{CONFIG}", 200)
