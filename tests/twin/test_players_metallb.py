"""MetalLB as the twin plays it, on a real API server. The tests go on from each other's end."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.twin.players_lab import Lab, settled, wait
from tools import paths

pytestmark = [
    pytest.mark.skipif(not paths.servers_bin().exists(), reason="make tools builds the servers"),
    pytest.mark.timeout(180),
]
SERVICES = "/api/v1/namespaces/default/services"
METALLB = "/apis/metallb.io/v1beta1/namespaces/metallb-system"
POOL = "metallb.io/ip-allocated-from-pool"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    made = Lab()
    yield made
    made.close()


def service(lab: Lab, name: str, port: int = 80, annotations: dict[str, str] | None = None, **spec: Any) -> str:
    spec = {"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"name": "p", "port": port}], **spec}
    return lab.put(SERVICES, "Service", name, metadata={"annotations": annotations or {}}, spec=spec)


def addresses(lab: Lab, path: str) -> list[str]:
    return [entry["ip"] for entry in lab.status(path).get("loadBalancer", {}).get("ingress") or []]


def complaints(lab: Lab, name: str) -> str:
    events = lab.items("/api/v1/namespaces/default/events")
    return " ".join(e["message"] for e in events if e["involvedObject"]["name"] == name and e["type"] == "Warning")


def announcers(lab: Lab) -> dict[str, str]:
    found = lab.items(f"{METALLB}/servicel2statuses")
    return {s["status"]["serviceName"]: s["status"]["node"] for s in found if "status" in s}


def test_nobody_gives_an_address_before_the_controller_runs(lab: Lab) -> None:
    web = service(lab, "web", externalTrafficPolicy="Cluster")
    lab.namespace("metallb-system")
    for plural, kind in (
        ("ipaddresspools", "IPAddressPool"),
        ("l2advertisements", "L2Advertisement"),
        ("servicel2statuses", "ServiceL2Status"),
    ):
        lab.crd("metallb.io", "v1beta1", plural, kind)
    spec = {"addresses": ["192.0.2.0/30", "192.0.2.200-192.0.2.203"], "avoidBuggyIPs": True}
    lab.put(f"{METALLB}/ipaddresspools", "IPAddressPool", "house", spec=spec)
    settled()
    assert addresses(lab, web) == []
    lab.workload("Deployment", "metallb-controller", "metallb-system")
    wait(lambda: addresses(lab, web) == ["192.0.2.1"])
    assert lab.call("get", web)["metadata"]["annotations"][POOL] == "house"


def test_an_address_that_is_asked_for(lab: Lab) -> None:
    fixed = service(lab, "fixed", annotations={"metallb.io/loadBalancerIPs": "192.0.2.201"})
    wait(lambda: addresses(lab, fixed) == ["192.0.2.201"])
    old = service(lab, "old", loadBalancerIP="192.0.2.202")
    wait(lambda: addresses(lab, old) == ["192.0.2.202"])
    lab.call("patch", fixed, {"metadata": {"annotations": {"metallb.io/loadBalancerIPs": "192.0.2.203"}}})
    wait(lambda: addresses(lab, fixed) == ["192.0.2.203"])


@pytest.mark.parametrize(
    ("name", "annotations", "spec", "message"),
    [
        ("outside", {"metallb.io/loadBalancerIPs": "192.0.2.99"}, {}, "is not allowed in config"),
        ("taken", {"metallb.io/loadBalancerIPs": "192.0.2.203"}, {}, "also in use"),
        ("both", {"metallb.io/loadBalancerIPs": "192.0.2.2"}, {"loadBalancerIP": "192.0.2.2"}, "can not have both"),
        ("two", {"metallb.io/loadBalancerIPs": "192.0.2.2,192.0.2.200"}, {}, "ipFamily"),
        ("lost", {"metallb.io/address-pool": "nowhere"}, {}, "unknown pool"),
        ("words", {"metallb.io/loadBalancerIPs": "traefik"}, {}, "invalid"),
    ],
)
def test_what_is_refused_says_why(lab: Lab, name: str, annotations: Any, spec: Any, message: str) -> None:
    path = service(lab, name, annotations=annotations, **spec)
    wait(lambda: message in complaints(lab, name))
    assert addresses(lab, path) == []
    lab.call("delete", path)


def test_two_services_share_an_address_with_one_key_and_other_ports(lab: Lab) -> None:
    shared = {"metallb.io/loadBalancerIPs": "192.0.2.200", "metallb.io/allow-shared-ip": "dns"}
    one, two = service(lab, "one", 53, shared), service(lab, "two", 853, shared)
    wait(lambda: addresses(lab, one) == addresses(lab, two) == ["192.0.2.200"])
    clash = service(lab, "clash", 53, shared)
    wait(lambda: "also in use" in complaints(lab, "clash"))
    assert addresses(lab, clash) == []
    lab.call("delete", one)
    wait(lambda: addresses(lab, clash) == ["192.0.2.200"])
    for path in (two, clash):
        lab.call("delete", path)


def test_a_full_pool_serves_again_when_somebody_leaves(lab: Lab) -> None:
    names = [service(lab, f"many{number}") for number in range(5)]  # .2 .3 .200 .201 are left
    wait(lambda: sum(bool(addresses(lab, path)) for path in names) == 4)
    waiting = next(path for path in names if not addresses(lab, path))
    wait(lambda: "no available IPs" in complaints(lab, waiting.rpartition("/")[2]))
    leaving = next(path for path in names if addresses(lab, path))
    freed = addresses(lab, leaving)
    lab.call("delete", leaving)
    wait(lambda: addresses(lab, waiting) == freed)
    lab.call("patch", waiting, {"spec": {"type": "ClusterIP"}})
    wait(lambda: POOL not in lab.call("get", waiting)["metadata"].get("annotations", {}))
    for path in names:
        lab.call("delete", path)


def test_who_announces(lab: Lab) -> None:
    """A service with a pod, an advertisement for its pool, and a node that is not excluded."""
    lab.workload("DaemonSet", "metallb-speaker", "metallb-system", "--port=7472")
    lab.put(f"{METALLB}/l2advertisements", "L2Advertisement", "house", spec={"ipAddressPools": ["other"]})
    lab.workload("Deployment", "web", "default")
    settled()
    assert announcers(lab) == {}
    lab.call("patch", f"{METALLB}/l2advertisements/house", {"spec": {"ipAddressPools": ["house"]}})
    wait(lambda: set(announcers(lab)) == {"web", "fixed", "old"})
    chosen = announcers(lab)["web"]
    mark = {"node.kubernetes.io/exclude-from-external-load-balancers": ""}
    other = next(f"n{number}" for number in (1, 2) if f"n{number}" != chosen)
    lab.call("patch", f"/api/v1/nodes/{chosen}", {"metadata": {"labels": mark}})
    wait(lambda: announcers(lab).get("web") == other)
    lab.call("patch", f"/api/v1/nodes/{other}", {"metadata": {"labels": mark}})
    wait(lambda: announcers(lab) == {})
    daemon_set = "/apis/apps/v1/namespaces/metallb-system/daemonsets/metallb-speaker"
    args = [{"op": "replace", "path": "/spec/template/spec/containers/0/args", "value": ["--ignore-exclude-lb=true"]}]
    lab.call("patch", daemon_set, args, "json-patch")
    wait(lambda: announcers(lab).get("web") == chosen)


def test_a_power_cut_ends_the_players_and_the_next_boot_brings_them_back(lab: Lab) -> None:
    machine = lab.scene.machines["m1"]
    lab.scene.do(machine.power_off)
    lab.scene.until(lambda: not lab.scene.lab.registry["players"])
    lab.scene.do(machine.power_on)
    lab.scene.until(lambda: (server := lab.scene.system("m1").control_plane) and server.ready, 60)
    late = service(lab, "late")
    wait(lambda: addresses(lab, late))
    assert addresses(lab, f"{SERVICES}/web") == ["192.0.2.1"]
