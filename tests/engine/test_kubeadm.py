"""kubeadm on the twin's hosts: up from nothing behind a real HAProxy, a control plane out and back, a dead balancer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from providers.deadline import Deadline
from providers.kubernetes.client import Kube
from tests.engine.kubeadm import BALANCERS, PLANES, WORKER, KubeadmLab, needed

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeadmLab]:
    needed()
    made = KubeadmLab(tmp_path_factory.mktemp("kubeadm"))
    try:
        made.prepare()
        made.up().ok()
        yield made
    finally:
        made.end()


def nodes(lab: KubeadmLab) -> dict[str, bool]:
    """Asked again where a balancer has not yet seen that a control plane is gone."""
    with Kube(lab.kubeconfig()) as kube:
        return {node.name: node.ready for node in kube.patiently(kube.nodes, "Nodes", Deadline(20))}


def test_it_comes_up_behind_the_balancers(lab: KubeadmLab):
    assert nodes(lab) == dict.fromkeys((*PLANES, WORKER), True)
    assert len(lab.happened("kubeadm_init")) == 1
    assert sorted(lab.happened("kubeadm_join")) == sorted({*PLANES, WORKER} - set(lab.happened("kubeadm_init")))
    lab.unchanged().ok()


def test_the_token_and_the_keys_are_nowhere_in_plain(lab: KubeadmLab):
    exported = lab.engine("stack", "export").ok().output
    assert "PRIVATE KEY" not in exported
    assert "client-key-data" not in exported


def test_a_balancer_dies_and_the_api_goes_on_at_the_vip(lab: KubeadmLab):
    holder = lab.happened("vip_taken")[-1]
    assert holder in BALANCERS
    lab.twin("cut", holder)
    with Kube(lab.kubeconfig()) as kube:
        Deadline(20).poll(lambda: kube.healthy() or None, "the API at the VIP", 0.2)
    assert lab.happened("vip_taken")[-1] != holder
    lab.twin("power", holder)


def test_the_first_control_plane_goes_out_and_comes_back(lab: KubeadmLab):
    (first,) = lab.happened("kubeadm_init")
    before = lab.resources()
    lab.take_out(first).ok()
    assert set(nodes(lab)) == {*PLANES, WORKER} - {first}
    assert not lab.file(first, "/etc/kubernetes").exists()
    lab.up().ok()
    assert nodes(lab) == dict.fromkeys((*PLANES, WORKER), True)
    assert lab.resources() == before
    assert len(lab.happened("kubeadm_init")) == 1


def test_all_is_given_back(lab: KubeadmLab):
    lab.engine("destroy", "--yes", "--skip-preview").ok()
    for name in (*PLANES, WORKER):
        assert not lab.file(name, "/etc/kubernetes").exists()
        assert not lab.file(name, "/var/lib/etcd").exists()
    for name in BALANCERS:
        assert not lab.file(name, "/etc/haproxy/haproxy.cfg").exists()
