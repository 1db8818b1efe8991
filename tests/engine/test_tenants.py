"""Tenants on a twin: made, left alone, one beside another, not removed by mistake, removed with all they had."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from providers.deadline import Deadline
from providers.errors import HomelabError
from providers.kubernetes.client import Kube
from tests.engine.sandbox import Sandbox

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1800)]

UP_S = 900.0
ANSWER_S = 60.0
TOKENS = "/api/v1/namespaces/kube-system/secrets?labelSelector=homelab/join-token=true"


def settings(lab: Sandbox, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a lab's settings."""
    found = yaml.safe_load((lab.folder / lab.settings).read_text(encoding="utf-8"))
    change(found["config"])
    lab.write(lab.settings, yaml.safe_dump(found))


def tenants(lab: Sandbox, **wanted: dict[str, Any]) -> None:
    """Make these the lab's tenants."""
    settings(lab, lambda config: config.update({"homelab:tenants": wanted}))


def tenant(lab: Sandbox, last: int, **more: Any) -> dict[str, Any]:
    """A small tenant, at an address that ends with a number."""
    return {"version": "v1.36.1", "address": f"{lab.prefix}.{last}", "replicas": 1, **more}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A lab with what tenants need, and one of them."""
    lab = Sandbox(tmp_path_factory.mktemp("tenants")).prepare()
    platform = {
        "charts": {"mirror": f"http://{lab.prefix}.2:8080/charts"},
        "pools": [f"{lab.prefix}.200-{lab.prefix}.250"],
        "metallb": {},
        "cert_manager": {},
        "nfs": {"server": f"{lab.prefix}.3", "path": "/export"},
    }
    settings(lab, lambda config: config.update({"homelab:platform": platform}))
    tenants(lab, school=tenant(lab, 247))
    try:
        lab.run("up", "--yes", limit_s=UP_S).ok()
        yield lab
    finally:
        lab.end()


def file(lab: Sandbox, name: str) -> Path:
    """Where `up` leaves a tenant's kubeconfig."""
    return lab.folder / ".homelab" / "twin" / "tenants" / f"{name}.kubeconfig"


def look(kubeconfig: Path, path: str) -> dict[str, Any]:
    """An object or a list; empty where there is none."""
    with Kube(kubeconfig.read_text(encoding="utf-8")) as kube:
        return kube.patiently(lambda: dict(kube.look(path) or {}), path, Deadline(ANSWER_S))


def home(lab: Sandbox, path: str) -> dict[str, Any]:
    """The same in the home cluster."""
    return look(lab.folder / ".homelab" / "kubeconfig", path)


def outputs(lab: Sandbox) -> dict[str, Any]:
    """The stack's outputs, secrets in plain."""
    return dict(json.loads(lab.pulumi("stack", "output", "--json", "--show-secrets")))


def expected(lab: Sandbox, name: str) -> set[str]:
    """The names of a tenant's resources."""
    return {found for found in lab.names() if found == name or found.startswith(f"{name}-")}


def test_its_api_answers_at_its_address_through_its_kubeconfig(house: Sandbox) -> None:
    with Kube(file(house, "school").read_text(encoding="utf-8")) as kube:
        assert kube.server == f"https://{house.prefix}.247:6443"
        assert kube.healthy()
        assert kube.nodes() == ()
    service = home(house, "/api/v1/namespaces/school/services/school")
    assert service["status"]["loadBalancer"]["ingress"][0]["ip"] == f"{house.prefix}.247"
    assert file(house, "school").stat().st_mode & 0o777 == 0o600


def test_what_machines_join_with_is_a_secret_and_known_to_the_tenant(house: Sandbox) -> None:
    join = outputs(house)["tenants"]["school"]["join"]
    (found,) = look(file(house, "school"), TOKENS)["items"]
    assert found["metadata"]["name"] == f"bootstrap-token-{join['token'].partition('.')[0]}"
    assert join["endpoint"] == f"{house.prefix}.247:6443"
    shown = json.loads(house.pulumi("stack", "output", "--json"))["tenants"]["school"]
    assert (shown["api"], shown["kubeconfig"], shown["join"]) == (f"https://{join['endpoint']}", "[secret]", "[secret]")
    state = house.pulumi("stack", "export")
    assert join["token"] not in state
    assert join["token"].partition(".")[2] not in state + house.said()


def test_a_second_up_changes_nothing(house: Sandbox) -> None:
    assert "unchanged" in house.preview_unchanged().ok().output


def test_another_one_comes_beside_it(house: Sandbox) -> None:
    before, token = house.names(), outputs(house)["tenants"]["school"]["join"]
    tenants(house, school=tenant(house, 247), workshop=tenant(house, 248, datastore="own"))
    house.run("up", "--yes", limit_s=UP_S).ok()
    assert house.names() - before == expected(house, "workshop")
    assert outputs(house)["tenants"]["school"]["join"] == token
    both = [look(file(house, name), "/api/v1/namespaces/kube-system")["metadata"] for name in ("school", "workshop")]
    assert both[0]["uid"] != both[1]["uid"]
    stores = home(house, "/apis/kamaji.clastix.io/v1alpha1/datastores")["items"]
    assert {store["metadata"]["name"] for store in stores} == {"default", "workshop"}


def test_one_that_was_only_forgotten_stays(house: Sandbox) -> None:
    before = house.names()
    tenants(house, school=tenant(house, 247))
    refused = house.run("up", "--yes", limit_s=UP_S)
    assert refused.code != 0
    assert "write `removable: true` under tenants.workshop" in " ".join(refused.output.split())
    assert house.names() == before
    assert look(file(house, "workshop"), TOKENS)["items"]


def test_one_that_may_go_takes_all_with_it(house: Sandbox) -> None:
    gone = file(house, "workshop").read_text(encoding="utf-8")
    tenants(house, school=tenant(house, 247), workshop=tenant(house, 248, datastore="own", removable=True))
    house.run("up", "--yes", limit_s=UP_S).ok()
    tenants(house, school=tenant(house, 247))
    house.run("up", "--yes", limit_s=UP_S).ok()
    assert expected(house, "workshop") == set()
    assert home(house, "/api/v1/namespaces/workshop") == {}
    claims = home(house, "/api/v1/persistentvolumeclaims")["items"]
    assert {claim["metadata"]["namespace"] for claim in claims} == {"kamaji-system"}
    stores = home(house, "/apis/kamaji.clastix.io/v1alpha1/datastores")["items"]
    assert {store["metadata"]["name"] for store in stores} == {"default"}
    assert not file(house, "workshop").exists()
    with Kube(gone) as kube:
        assert not kube.healthy()
    assert look(file(house, "school"), TOKENS)["items"]
    house.preview_unchanged().ok()


def test_a_token_that_was_lost_is_made_anew(house: Sandbox) -> None:
    before = outputs(house)["tenants"]["school"]["join"]["token"]
    with Kube(file(house, "school").read_text(encoding="utf-8")) as kube:
        path = f"/api/v1/namespaces/kube-system/secrets/bootstrap-token-{before.partition('.')[0]}"
        assert kube.remove(path, Deadline(ANSWER_S))
    house.run("refresh", "--yes", limit_s=UP_S).ok()
    house.run("up", "--yes", limit_s=UP_S).ok()
    after = outputs(house)["tenants"]["school"]["join"]["token"]
    (found,) = look(file(house, "school"), TOKENS)["items"]
    assert found["metadata"]["name"] == f"bootstrap-token-{after.partition('.')[0]}" != f"bootstrap-token-{before[:6]}"


def test_the_end_of_the_home_cluster_is_not_held_up_by_a_tenant(house: Sandbox) -> None:
    kubeconfig = file(house, "school").read_text(encoding="utf-8")
    house.run("destroy", "--yes", limit_s=UP_S).ok()
    assert house.state() == []
    assert not file(house, "school").exists()
    with pytest.raises(HomelabError), Kube(kubeconfig) as kube:
        kube.version()
