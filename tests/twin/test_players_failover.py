"""The players of a cluster go on at whatever API server of it answers."""

from collections.abc import Iterator
from functools import partial

import pytest

from tests.twin.players_lab import Lab, wait
from tests.twin.talos_scene import NotRunning
from tools import paths
from twin.kubernetes.api import ApiError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not paths.servers_bin().exists(), reason="make tools builds the servers"),
    pytest.mark.timeout(180),
]
SERVICES = "/api/v1/namespaces/default/services"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    made = Lab(3, leading=3)
    yield made
    made.close()


def address(lab: Lab, name: str) -> str:
    spec = {"type": "LoadBalancer", "ports": [{"port": 80}]}
    path = lab.put(SERVICES, "Service", name, spec=spec)
    found = wait(lambda: lab.status(path)["loadBalancer"].get("ingress"), 60)
    return str(found[0]["ip"])


def writes(lab: Lab) -> bool:
    """Whether the rest has found a leader."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "x-"}}
    try:
        return bool(lab.call("create", "/api/v1/namespaces/default/configmaps", body))
    except ApiError:
        return False


def serves(lab: Lab, name: str) -> bool:
    try:
        server = lab.scene.system(name).control_plane
    except NotRunning:
        return False
    return server is not None and server.ready


def test_each_control_plane_may_lose_power(lab: Lab) -> None:
    lab.namespace("metallb-system")
    lab.crd("metallb.io", "v1beta1", "ipaddresspools", "IPAddressPool")
    pools = "/apis/metallb.io/v1beta1/namespaces/metallb-system/ipaddresspools"
    lab.put(pools, "IPAddressPool", "house", spec={"addresses": ["192.0.2.1-192.0.2.9"]})
    lab.workload("Deployment", "metallb-controller", "metallb-system")
    where = "/apis/apps/v1/namespaces/metallb-system/deployments/metallb-controller"
    lab.call("patch", where, {"spec": {"replicas": 3}})  # one pod would be away for minutes with its node
    wait(lambda: lab.status(where).get("availableReplicas") == 3)
    assert address(lab, "first") == "192.0.2.1"
    for number, (gone, left) in enumerate((("m1", "m2"), ("m2", "m3"), ("m3", "m1")), 2):
        lab.server = left
        lab.scene.do(lab.scene.machines[gone].power_off)
        wait(lambda: writes(lab), 60)
        assert address(lab, f"without-{gone}") == f"192.0.2.{number}"
        lab.scene.do(lab.scene.machines[gone].power_on)
        wait(partial(serves, lab, gone), 60)
    assert len(lab.scene.lab.registry["players"]) == 1
