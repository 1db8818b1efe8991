"""What is refused at preview, without asking anybody; what a day's diff says of certificates."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from providers.kubeadm.resources import ClusterProvider, MachineProvider

CLUSTER = {
    "name": "garage", "version": "v1.36.1", "host": "10.0.0.5", "port": 6443.0, "vip": "10.0.0.5",
    "pod_subnet": "10.42.0.0/16", "service_subnet": "10.43.0.0/16", "kube_proxy": True, "taint": True, "kube_vip": "",
}  # fmt: skip


def bag(**changed: Any) -> dict[str, Any]:
    return {"cluster": {**CLUSTER, **changed}, "control_planes": {"cp1": {}}, "generation": 1, "host": "cp1"}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"host": "garage.home.arpa"},
            "can't change host from 10.0.0.5 to garage.home.arpa while it lives; change it back",
        ),
        ({"pod_subnet": "10.52.0.0/16"}, "can't change pod_subnet from 10.42.0.0/16 to 10.52.0.0/16"),
        ({"version": "v1.37.0"}, "or run `kubeadm upgrade` by hand on each host first"),
        ({"kube_proxy": False}, "can't change kube_proxy"),
    ],
)
def test_what_a_cluster_has_for_life(changed: dict[str, Any], words: str):
    for provider in (ClusterProvider(), MachineProvider()):
        ((key, reason),) = provider.problems(bag(), bag(**changed))
        assert key == "cluster"
        assert words in reason


def test_what_may_change_is_not_refused():
    assert MachineProvider().problems(bag(), bag(taint=False)) == []
    assert ClusterProvider().problems(bag(), bag(taint=False, kube_vip="kube-vip:v2")) == []
    assert ClusterProvider().problems({}, bag()) == []


def test_a_generation_only_grows():
    ((key, reason),) = MachineProvider().problems(bag(), {**bag(), "generation": 0})
    assert (key, reason) == ("generation", "hosts.cp1.generation only grows; it was 1")


@pytest.mark.parametrize(("days", "changes"), [(300, False), (61, False), (30, True)])
def test_certificates_that_end_soon_are_a_change(days: int, changes: bool):
    day = (datetime.now(UTC) + timedelta(days=days)).date().isoformat()
    olds = {**bag(), "certificates_end": day, "kubeconfig": "x"}
    assert ClusterProvider().diff("garage", olds, bag()).changes is changes
