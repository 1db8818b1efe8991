"""A real sshd of the test's own: not root's, on a free port, with keys that nobody else knows."""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import asyncssh
import pytest

from providers.ssh.client import Target
from tests.ports import free_port

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")


@dataclass
class Sshd:
    """A running server."""

    process: subprocess.Popen[bytes]
    target: Target
    folder: Path
    log: Path

    def end(self) -> None:
        """End it, and with it what it runs."""
        self.process.terminate()
        self.process.wait(10)


def start(folder: Path, port: int) -> Sshd:
    """An sshd that takes one key of the user who runs the tests."""
    host_key, key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "host").write_bytes(host_key.export_private_key())
    (folder / "host").chmod(0o600)
    (folder / "authorized").write_bytes(key.export_public_key())
    options = {
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "authorized",
        "ListenAddress": "127.0.0.1",
        "PidFile": "none",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "MaxStartups": "100",
    }
    (folder / "config").write_text("".join(f"{name} {value}\n" for name, value in options.items()))
    if getpass.getuser() == "root":
        Path("/run/sshd").mkdir(exist_ok=True)  # where root's sshd locks itself in
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(SSHD), "-D", "-e", "-f", str(folder / "config"), "-p", str(port)], stdin=subprocess.DEVNULL, stderr=log
        )
    pinned = host_key.export_public_key().decode().strip()
    target = Target("node7", "127.0.0.1", pinned, key.export_private_key().decode(), user=getpass.getuser(), port=port)
    _wait_for(port)
    return Sshd(process, target, folder, folder / "log")


def _wait_for(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(f"sshd does not listen at {port}")


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """One for all tests of a module that leave it as it is."""
    if SSHD is None:
        pytest.skip("openssh-server is not installed")
    server = start(tmp_path_factory.mktemp("sshd"), free_port())
    yield server
    server.end()


@pytest.fixture
def target(sshd: Sshd) -> Target:
    """How to reach it; as root it would be, so that no sudo is asked for."""
    if getpass.getuser() != "root":
        pytest.skip("commands run as root, and there may be no sudo here")
    return replace(sshd.target)
