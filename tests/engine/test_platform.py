"""The platform on the twin: all of it from nothing, unchanged by a second run, each part out and back."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from providers.kubernetes.client import Kube
from settings.platform import PARTS
from tests.engine.sandbox import Sandbox

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]

EVERY = (*PARTS, "torrent", "web")
IN_EVERY_RUN = ("traefik",)
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


def test_every_pod_asks_for_what_it_needs_and_says_why_it_is_root(house: Sandbox) -> None:
    """Pods of our own; those of charts are their authors'."""
    ours = ("dns", "torrent", "web", "etcd-backup")
    deployments = [
        item for item in look(house, "/apis/apps/v1/deployments")["items"] if item["metadata"]["namespace"] in ours
    ]
    assert {item["metadata"]["namespace"] for item in deployments} == set(ours)
    for item in deployments:
        template = item["spec"]["template"]
        reasons = {**item["metadata"].get("annotations", {}), **template["metadata"].get("annotations", {})}
        for container in template["spec"]["containers"]:
            where = f"{item['metadata']['name']}/{container['name']}"
            security = {**template["spec"].get("securityContext", {}), **container.get("securityContext", {})}
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}, where
            assert "readinessProbe" in container or "livenessProbe" in container, where
            assert security.get("runAsNonRoot") or "homelab/root-reason" in reasons, where


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
