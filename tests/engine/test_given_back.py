"""Proof 6: `destroy` of everything, also with every API down; no process and no port is left after `down`."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.engine.sandbox import Sandbox

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


def processes(folder: Path) -> list[str]:
    """The command lines of processes that work in a folder or name it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            inside = (process / "cwd").resolve().is_relative_to(folder)
        except OSError:
            continue
        if inside or str(folder) in command:
            found.append(command)
    return found


def listening(prefix: str) -> list[str]:
    """Addresses of the lab on which somebody listens, from the kernel's own table."""
    wanted = tuple(int(part) for part in prefix.split("."))
    found = []
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        local, state = line.split()[1], line.split()[3]
        address, port = local.split(":")
        octets = tuple(socket.inet_aton(socket.inet_ntoa(int(address, 16).to_bytes(4, "little"))))
        if state == "0A" and octets[:3] == wanted:
            found.append(f"{'.'.join(map(str, octets))}:{int(port, 16)}")
    return found


def test_destroy_with_every_api_down(either: Sandbox) -> None:
    assert listening(either.prefix), "the check must see the running lab"
    for module in either.count("flash_done"):
        either.twin("fault", "etcd-down", "--node", module)
    either.run("destroy", "--yes").ok()
    assert {node["power"] for node in either.status()["nodes"]} == {"off"}
    assert not any(name.startswith("node") for name in either.names())


def test_down_leaves_no_process_and_no_port(either: Sandbox) -> None:
    assert processes(either.folder)
    either.run("down", "--yes").ok()
    assert processes(either.folder) == []
    assert listening(either.prefix) == []
    assert not either.twin_state.exists()
