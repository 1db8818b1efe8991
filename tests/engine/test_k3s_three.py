"""Three k3s servers with etcd behind a virtual address: from nothing, a server out and back, another version."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from providers.kubernetes.client import Kube
from tests.engine.hosts import HostsLab

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1800)]
NEXT = "v1.37.1+k3s1"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostsLab]:
    """Three servers and an agent."""
    lab = HostsLab(tmp_path_factory.mktemp("three"), servers=3)
    try:
        began = time.monotonic()
        lab.prepare().up().ok()
        print(f"cold up: {time.monotonic() - began:.1f} s")
        yield lab
    finally:
        lab.end()


def versions(lab: HostsLab) -> dict[str, str]:
    with Kube(lab.kubeconfig()) as kube:
        return {node.name: node.kubelet for node in kube.nodes() if node.ready and not node.unschedulable}


def test_one_begins_and_two_join(lab: HostsLab) -> None:
    assert set(versions(lab)) == {"h1", "h2", "h3", "h4"}
    tokens = [lab.file(name, "/var/lib/rancher/k3s/server/token").read_text() for name in ("h1", "h2", "h3")]
    assert len(set(tokens)) == 1, "one cluster, not three"
    lab.unchanged().ok()


def test_a_server_out_and_back(lab: HostsLab) -> None:
    lab.take_out("h1").ok()
    assert lab.happened("etcd_member_removed")
    assert set(versions(lab)) == {"h2", "h3", "h4"}
    lab.up().ok()
    assert set(versions(lab)) == {"h1", "h2", "h3", "h4"}
    lab.unchanged().ok()


def test_etcds_quorum_is_kept(lab: HostsLab) -> None:
    lab.twin("cut", "h3")
    time.sleep(15)  # the cluster sees that it is not Ready
    refused = lab.take_out("h2")
    assert refused.code != 0
    assert "etcd members would be healthy" in refused.output
    lab.twin("power", "h3")
    lab.up().ok()


def test_another_version_goes_host_by_host(lab: HostsLab) -> None:
    lab.k3s = {"version": NEXT}
    lab.write_settings()
    lab.up().ok()
    assert versions(lab) == dict.fromkeys(("h1", "h2", "h3", "h4"), NEXT)
    lab.unchanged().ok()
