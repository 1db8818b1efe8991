"""k3s on Linux hosts, by the real engine: from nothing, unchanged, a host out and back, dead, and a killed run."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from providers.kubernetes.client import Kube
from tests.engine.hosts import HostsLab

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostsLab]:
    """One server, one agent; nothing on them."""
    lab = HostsLab(tmp_path_factory.mktemp("hosts"))
    try:
        yield lab.prepare()
    finally:
        lab.end()


@pytest.fixture(scope="module")
def lab(cold: HostsLab) -> HostsLab:
    """The same, converged."""
    cold.up().ok()
    return cold


def ready(lab: HostsLab) -> dict[str, bool]:
    with Kube(lab.kubeconfig()) as kube:
        return {node.name: node.ready for node in kube.nodes()}


def test_from_nothing_to_a_server_and_an_agent(cold: HostsLab) -> None:
    began = time.monotonic()
    cold.up().ok()
    print(f"cold up: {time.monotonic() - began:.1f} s")
    assert ready(cold) == {"h1": True, "h2": True}
    assert not cold.events("unknown_command")
