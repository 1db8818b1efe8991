"""k3s servers with a real etcd and no API server: for what is done with the data alone."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from providers.k3s import files
from tests.played import Played
from tools import paths
from twin.hosts import k3s_agent, k3s_bootstrap
from twin.hosts.host import Host
from twin.hosts.k3s_server import Server
from twin.hosts.units import PROGRAMS


class Store(Server):
    """A server with its authorities, token and etcd, and nothing above it."""

    async def start(self) -> None:
        """Until its etcd votes."""
        initial = await self._bootstrap()
        self._write_token()
        await self.run_etcd(initial)
        await k3s_bootstrap.store(self)
        self.host.forget("/var/lib/rancher/k3s/server/db/reset-flag")
        self.ready = True


async def admitted(_host: Host, _server: Server) -> None:
    """Nobody asks for the node's password."""


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Played]:
    """Three hosts that run such servers."""
    monkeypatch.setenv("HOMELAB_TIME_SCALE", "0.1")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # locks of its own: others' clusters have the same name
    monkeypatch.setenv("HOMELAB_TOOLS", str(paths.servers()))
    monkeypatch.setattr("providers.pace.MIN_LIMIT_S", 20.0)
    monkeypatch.setattr(k3s_agent, "admitted", admitted)
    monkeypatch.setitem(PROGRAMS, files.BINARY, lambda host, argv: Store(host))
    with Played(tmp_path / "hosts", {"h1": {}, "h2": {}, "h3": {}}) as hosts:
        yield hosts
