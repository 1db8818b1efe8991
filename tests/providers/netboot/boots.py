"""Real clients and servers for netboot: iPXE in qemu, dnsmasq, an HTTP server; in namespaces, or without root."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from providers.netboot.plan import Image, Machine, Pool, Service
from providers.netboot.scripts import KERNEL

MAC, UNKNOWN = "52:54:00:12:34:56", "52:54:00:99:99:99"
UUID = "4c1ab61c-9a6c-4a0e-8f5e-0a5d8a3c2b11"
CONFIG = "config/0f3c1d/node7.yaml"
IMAGE = Image("debian-7", ("console=ttyS0", "quiet"))
TALOS = Image("talos-1", ("talos.platform=metal", "talos.config={config}"))
LOADERS = Path("/usr/lib/ipxe")
_REQUEST = re.compile(r'"(GET \S+) HTTP/1\.[01]" (\d+)')


def needs(*programs: str) -> None:
    """Skip where a program of the distribution is missing."""
    for name in programs:
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed (apt-get install qemu-system-x86 ipxe-qemu dnsmasq iproute2)")


def needs_namespaces() -> None:
    """Skip where this user may not make network namespaces."""
    needs("ip")
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root here; the tests over qemu's user network need none")
    if subprocess.run(["ip", "netns", "add", "homelab-try"], capture_output=True).returncode != 0:
        pytest.skip("this machine lets nobody make network namespaces")
    subprocess.run(["ip", "netns", "del", "homelab-try"], check=True)


def service(address: str, port: int, **more: object) -> Service:
    """A boot service in the /24 around its address."""
    net = IPv4Network(f"{address}/24", strict=False)
    return Service(IPv4Address(address), net, port=port, **more)  # type: ignore[arg-type]


def pool(image: Image = IMAGE) -> Pool:
    """A pool of one machine."""
    return Pool("workers", image, (Machine("node7", MAC, config=CONFIG),))


def write(root: Path, files: dict[str, str], system: str = "#!ipxe\nreboot\n") -> None:
    """Write a tree to serve. In place of a kernel lies a script that ends the virtual machine."""
    images = {f"images/{image.name}/{KERNEL}": system for image in (IMAGE, TALOS)}
    images |= {f"images/{image.name}/initramfs": "root in RAM" for image in (IMAGE, TALOS)}
    for path, text in {**files, **images, CONFIG: "who: node7\n"}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")


@contextlib.contextmanager
def running(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server for as long as the body runs."""
    with log.open("ab") as out:
        process = subprocess.Popen(list(command), stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(10)


def http_server(root: Path, address: str, port: int) -> list[str]:
    """The command of a plain HTTP server whose log tells each request."""
    return [sys.executable, "-u", "-m", "http.server", "-b", address, "-d", str(root), str(port)]


def requests(log: Path) -> list[tuple[str, int]]:
    """What was asked for, and the status of the answer, in order."""
    return [(found[1], int(found[2])) for found in _REQUEST.finditer(log.read_text(errors="replace"))]


def machine(mac: str, network: Sequence[str], screen: Path) -> list[str]:
    """A virtual machine without a disk, in plain software emulation; it ends when it reboots."""
    return [
        "qemu-system-x86_64", "-accel", "tcg", "-m", "256", "-nographic", "-nodefaults", "-no-reboot",
        "-serial", f"file:{screen}", "-monitor", "none", "-boot", "n", "-uuid", UUID,
        *network, "-device", f"virtio-net-pci,netdev=n0,mac={mac}",
    ]  # fmt: skip


def until(seen: Callable[[], bool], limit_s: float, what: str) -> None:
    """Wait for something."""
    end = time.monotonic() + limit_s
    while not seen():
        assert time.monotonic() < end, f"not within {limit_s} s: {what}"
        time.sleep(0.1)
