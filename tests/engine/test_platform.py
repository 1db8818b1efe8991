"""The platform on the twin: all of it from nothing, unchanged by a second run, each part out and back."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from providers.kubernetes.client import Kube
from settings.platform import PARTS
from tests.components.pods import faults, told
from tests.engine.sandbox import Sandbox

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]

EVERY = (*PARTS, "torrent", "web")
IN_EVERY_RUN = ("traefik",)
TALOS = {"coredns", "kube-flannel", "kube-proxy", "kube-apiserver", "kube-controller-manager", "kube-scheduler"}
OF_LONGHORN = (
    "csi-attacher",
    "csi-provisioner",
    "csi-resizer",
    "csi-snapshotter",
    "engine-image-",
    "longhorn-csi-plugin",
)  # made by its manager; the twin's are simpler
UP_S = 600.0


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A lab with everything on."""
    lab = Sandbox(tmp_path_factory.mktemp("house"), platform=True).prepare()
    try:
        lab.run("up", "--yes", limit_s=UP_S).ok()
        yield lab
    finally:
        lab.end()


def look(lab: Sandbox, path: str) -> dict[str, Any]:
    """An object or a list, from the API server."""
    with Kube((lab.folder / ".homelab" / "kubeconfig").read_text(encoding="utf-8")) as kube:
        return dict(kube.look(path) or {})


def maker(pod: dict[str, Any]) -> str:
    """What made a pod: a Deployment goes by its ReplicaSet, whose name ends with a hash; a static pod by its node."""
    owner = pod["metadata"].get("ownerReferences", [{"kind": "", "name": pod["metadata"]["name"]}])[0]
    name = str(owner["name"])
    if owner["kind"] == "Node":
        return str(pod["metadata"]["name"]).removesuffix(f"-{name}")
    return name.rpartition("-")[0] if owner["kind"] == "ReplicaSet" else name


def settings(lab: Sandbox) -> dict[str, Any]:
    """The platform's settings, as the file has them."""
    return dict(yaml.safe_load((lab.folder / lab.settings).read_text(encoding="utf-8"))["config"]["homelab:platform"])


def part_of(urn: str, parents: dict[str, str]) -> str:
    """The name of the outermost component that a resource is in."""
    while parents.get(urn) and "pulumi:pulumi:Stack" not in parents[urn]:
        urn = parents[urn]
    return urn.rsplit("::", 1)[-1]


def test_a_second_up_changes_nothing(house: Sandbox) -> None:
    assert "unchanged" in house.preview_unchanged().ok().output


def test_services_have_the_addresses_of_the_settings(house: Sandbox) -> None:
    found = {
        point["ip"]
        for service in look(house, "/api/v1/services")["items"]
        for point in service["status"].get("loadBalancer", {}).get("ingress", ())
    }
    assert set(settings(house)["addresses"].values()) <= found


def test_every_host_has_a_record_in_the_houses_dns(house: Sandbox) -> None:
    ingresses = look(house, "/apis/networking.k8s.io/v1/ingresses")["items"]
    hosts = {rule["host"] for ingress in ingresses for rule in ingress["spec"]["rules"]}
    secret = next(
        item for item in look(house, "/api/v1/namespaces/dns/secrets")["items"] if "AdGuardHome.yaml" in item["data"]
    )
    adguard = yaml.safe_load(base64.b64decode(secret["data"]["AdGuardHome.yaml"]))
    records = {record["domain"]: record["answer"] for record in adguard["filtering"]["rewrites"] if record["enabled"]}
    assert len(hosts) >= 6
    assert {records.get(host) for host in hosts} == {settings(house)["addresses"]["traefik"]}


def test_every_claim_is_bound(house: Sandbox) -> None:
    claims = look(house, "/api/v1/persistentvolumeclaims")["items"]
    assert len(claims) >= 3
    assert {claim["status"]["phase"] for claim in claims} == {"Bound"}


def test_every_pod_asks_is_nobody_and_is_probed_or_the_docs_say_why(house: Sandbox) -> None:
    """As they run, with what their namespaces add: of charts, of our own, and of those that charts' programs make."""
    every = look(house, "/api/v1/pods")["items"]
    pods = [pod for pod in every if maker(pod) not in TALOS and not maker(pod).startswith(OF_LONGHORN)]
    assert {pod["metadata"]["namespace"] for pod in pods} >= {"dns", "torrent", "web", "longhorn-system", "monitoring"}
    assert {fault for pod in pods for fault in faults(maker(pod), pod)} - told().keys() == set()


def test_no_part_records_a_dependency_on_another_or_on_a_node(house: Sandbox) -> None:
    """What a targeted destroy would take along."""
    state = house.state()
    parents = {item["urn"]: item.get("parent", "") for item in state}
    found = {
        (part_of(item["urn"], parents), part_of(needed, parents))
        for item in state
        for needed in item.get("dependencies", ())
        if part_of(item["urn"], parents) in EVERY
    }
    alien = {(part, other) for part, other in found if other not in (part, "control-plane", "secrets", "kubernetes")}
    assert found
    assert not alien


@pytest.mark.parametrize("part", [pytest.param(p, marks=[] if p in IN_EVERY_RUN else pytest.mark.slow) for p in EVERY])
def test_a_part_out_and_back(house: Sandbox, part: str) -> None:
    before = house.names()
    parents = {item["urn"]: item.get("parent", "") for item in house.state()}
    own = {urn.rsplit("::", 1)[-1] for urn in parents if part_of(urn, parents) == part}
    house.run("destroy-target", part, "--yes").ok()
    assert house.names() == before - own
    house.run("up", "--yes", limit_s=UP_S).ok()
    assert house.names() == before
    house.preview_unchanged().ok()
