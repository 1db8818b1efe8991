"""A kubeadm cluster's resources: which there are for what settings, and what they are told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pulumi
import pytest

from components.kubeadm import Kubeadm
from settings import Settings, load
from settings.cni import Cni
from tests.components.house import LOOP, Made, Recorder, kubeconfig

SECRET = "4dabf18193072939515e22adb298388d"  # the key by which the engine knows a secret
VALID = Path(__file__).parents[1] / "settings" / "valid"


class Engine(Recorder):
    """Gives the cluster a kubeconfig."""

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        id_, outputs = super().new_resource(args)
        if args.name == "garage-cluster":
            outputs |= {"kubeconfig": kubeconfig(), "certificates_end": "2027-11-01"}
        return id_, outputs


def build(wanted: Settings) -> Made:
    engine = Engine()

    def program() -> None:
        Kubeadm(wanted.clusters["garage"], wanted)

    run: Any = pulumi.runtime.test  # has no types
    asyncio.set_event_loop(LOOP)  # other tests may have ended theirs
    pulumi.runtime.set_mocks(engine, preview=False)
    run(program)()
    return engine.made


def without_network(name: str) -> Settings:
    """A valid file's lab whose cluster's network is the owner's: charts are not what is tested here."""
    lab = load(VALID / f"{name}.yaml")
    none = lab.clusters["garage"].model_copy(update={"cni": Cni.NONE})
    return lab.model_copy(update={"clusters": {"garage": none}})


def told(made: Made, name: str) -> dict[str, Any]:
    found = made[name].inputs["settings"]
    plain: dict[str, Any] = found["value"] if SECRET in found else found
    return plain


@pytest.fixture(scope="module")
def balanced() -> Made:
    lab = load(VALID / "kubeadm.yaml")
    flannel = lab.clusters["garage"].model_copy(update={"cni": Cni.FLANNEL})
    return build(lab.model_copy(update={"clusters": {"garage": flannel}}))


def test_each_host_has_what_goes_with_it_by_its_name(balanced: Made):
    for name in ("cp1", "cp2", "cp3", "w1"):
        assert {f"{name}-prepared", f"{name}-machine", f"{name}-member"} <= set(balanced)
    assert {"lb1-balancer", "lb2-balancer", "garage-cluster"} <= set(balanced)
    assert not {"lb1-machine", "lb1-member"} & set(balanced), "a balancer is no node"


def test_balancers_know_all_control_planes_and_each_other(balanced: Made):
    one, other = (told(balanced, f"{name}-balancer") for name in ("lb1", "lb2"))
    assert one["front"] == {
        "name": "garage",
        "bind": "*:6443",
        "backends": {f"cp{i}": f"192.168.1.24{i}:6443" for i in (1, 2, 3)},
    }
    assert (one["sharing"]["address"], one["sharing"]["peers"]) == ("192.168.1.251", ["192.168.1.252"])
    assert (one["sharing"]["vip"], one["sharing"]["router"]) == ("192.168.1.240", 240)
    assert one["sharing"]["priority"] > other["sharing"]["priority"]


def test_the_network_is_the_platforms_and_led_by_kube_proxy(balanced: Made):
    daemon = balanced["garage-flannel-daemon"].inputs
    container = daemon["spec"]["template"]["spec"]["containers"][0]
    assert not [item for item in container["env"] if item["name"] == "KUBERNETES_SERVICE_HOST"]
    assert '"vxlan"' in balanced["garage-flannel-config"].inputs["data"]["net-conf.json"]


def test_a_segment_is_where_nodes_talk_and_ssh_stays_where_it_was():
    made = build(without_network("kubeadm-kube-vip-segment"))
    machine = told(made, "cp1-machine")
    assert (machine["address"], machine["node"]["node_ip"]) == ("192.168.1.241", "10.20.0.11")
    assert machine["cluster"]["host"] == "garage.home.arpa"
    assert machine["cluster"]["kube_vip"].startswith("ghcr.io/kube-vip/kube-vip:v")
    assert machine["cluster"]["taint"] is False
    assert not [name for name in made if name.endswith("-balancer")]


def test_with_one_control_plane_its_own_address_is_the_endpoint():
    made = build(without_network("kubeadm-rancher"))
    cluster = told(made, "cp1-machine")["cluster"]
    assert (cluster["host"], cluster["port"], cluster["vip"]) == ("192.168.1.241", 6443, "")
    assert told(made, "garage-rancher")["url"] == "https://rancher.home.arpa"
    assert told(made, "garage-rancher")["name"] == "garage"


def test_without_a_network_nobody_waits_until_hosts_are_ready():
    assert told(build(without_network("kubeadm-own-load-balancer")), "cp1-member")["ready"] is False
