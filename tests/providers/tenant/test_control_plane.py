"""Waiting for a tenant's API, at a real API server that plays the home cluster and the tenant both."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from providers.deadline import Deadline
from providers.errors import DeadlineError, ProtocolError, RefusedError
from providers.kubernetes.client import Kube
from providers.tenant import control_plane, resources
from providers.tenant.control_plane import Wanted
from providers.tenant.resources import ApiProvider, KeptProvider
from tests.providers.kubernetes.servers import HOST, Cluster, cluster
from tests.providers.kubernetes.wire import Authority, kubeconfig

ROOT = Path(__file__).parents[3]
PATH = f"{control_plane.API}/namespaces/school/tenantcontrolplanes"
SECRETS = "/api/v1/namespaces/school/secrets"
SCHOOL = Wanted("school", f"https://{HOST}:6443", "v1.36.1")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A home cluster that knows the kind, with a namespace for the tenant."""
    with cluster(tmp_path_factory.mktemp("home")) as running:
        for body in yaml.safe_load_all((ROOT / "twin/charts/kamaji/crds/kamaji.yaml").read_text()):
            running.make("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", body)
        running.make("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "school"}})
        with Kube(running.kubeconfig) as kube:
            kube.patiently(lambda: kube.look(PATH), "the kind", Deadline(30))
        yield running


def missing(api: Cluster, wanted: Wanted = SCHOOL) -> str:
    with Kube(api.kubeconfig) as home:
        return control_plane.observe(home, wanted)[0]


def says(api: Cluster, status: str, version: str = "v1.36.1") -> None:
    told = {"kubernetesResources": {"version": {"status": status, "version": version}}}
    api.patch(f"{PATH}/school/status", {"status": told})


def hands_out(api: Cluster, text: str) -> None:
    api.end(f"{SECRETS}/school-admin-kubeconfig")
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "school-admin-kubeconfig"}}
    api.make(SECRETS, {**body, "data": {"admin.conf": base64.b64encode(text.encode()).decode()}})


def test_what_is_missing_is_told_one_after_the_other(api: Cluster) -> None:
    assert missing(api) == "there is no TenantControlPlane of it"
    spec = {
        "controlPlane": {"service": {"serviceType": "LoadBalancer"}},
        "kubernetes": {"version": "v1.36.1", "kubelet": {"cgroupfs": "systemd"}},
    }
    body = {"apiVersion": "kamaji.clastix.io/v1alpha1", "kind": "TenantControlPlane", "metadata": {"name": "school"}}
    api.make(PATH, {**body, "spec": spec})
    assert missing(api) == "the operator says nothing yet"
    says(api, "NotReady")
    assert missing(api) == "the operator says NotReady"
    says(api, "Ready", "v1.35.4")
    assert missing(api) == "its version is v1.35.4, not yet v1.36.1"
    says(api, "Ready")
    assert missing(api) == "no Secret school-admin-kubeconfig yet"


def test_a_kubeconfig_for_another_address_is_not_its_own(api: Cluster) -> None:
    hands_out(api, kubeconfig(Authority(), "https://192.0.2.9:6443"))
    assert missing(api) == f"its kubeconfig leads to https://192.0.2.9:6443, not to {SCHOOL.endpoint}"


def test_a_server_that_is_not_there_is_named(api: Cluster) -> None:
    nowhere = Wanted("school", "https://127.0.0.1:1", "v1.36.1")
    hands_out(api, kubeconfig(Authority(), nowhere.endpoint))
    assert missing(api, nowhere) == "https://127.0.0.1:1 is not ready"


def test_what_is_no_kubeconfig_is_an_error_that_says_how_to_mend_it(api: Cluster) -> None:
    hands_out(api, "nonsense")
    with pytest.raises(ProtocolError, match="kubectl -n school delete secret school-admin-kubeconfig") as caught:
        missing(api)
    assert "nonsense" not in str(caught.value)


def test_waiting_in_vain_says_what_was_missing_and_where_to_look(api: Cluster) -> None:
    says(api, "Provisioning")
    words: list[str] = []
    with Kube(api.kubeconfig) as home, pytest.raises(DeadlineError) as caught:
        control_plane.wait(home, SCHOOL, Deadline(0.6), words.append)
    assert words == ["the operator says Provisioning"]
    assert "last seen: the operator says Provisioning" in str(caught.value)
    assert "kubectl -n school describe tenantcontrolplane school" in str(caught.value)


def props(api: Cluster, **more: Any) -> dict[str, Any]:
    made = {"tenant": "school", "endpoint": SCHOOL.endpoint, "version": "v1.36.1", "replicas": 1}
    return {**made, "kubeconfig": api.kubeconfig, **more}


def test_one_that_answers_hands_out_its_kubeconfig(api: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "RENEW_BELOW_DAYS", 0)  # the test's certificates last a day
    says(api, "Ready")
    hands_out(api, api.kubeconfig)
    provider, wanted = ApiProvider(), props(api)
    made = provider.create(wanted).outs or {}
    assert made["admin"] == api.kubeconfig
    assert not provider.diff("school", made, wanted).changes
    assert provider.diff("school", made, {**wanted, "version": "v1.36.2"}).changes
    assert provider.diff("school", {**made, "admin": "damaged"}, wanted).changes
    assert (provider.read("school", made).outs or {})["admin"] == api.kubeconfig
    monkeypatch.setattr(resources, "RENEW_BELOW_DAYS", 2)
    assert provider.diff("school", made, wanted).changes


def test_one_that_is_gone_is_gone_and_a_home_that_is_silent_says_nothing(api: Cluster) -> None:
    provider = ApiProvider()
    silent = kubeconfig(Authority(), "https://127.0.0.1:1")
    assert provider.read("school", props(api, kubeconfig=silent)).id == "school"
    api.end(f"{PATH}/school")
    assert not provider.read("school", props(api)).id


def test_nobody_removes_one_who_has_not_said_that_it_may_go() -> None:
    provider, kept = KeptProvider(), {"tenant": "school", "endpoint": SCHOOL.endpoint, "removable": False}
    with pytest.raises(RefusedError, match=r"write `removable: true` under tenants\.school"):
        provider.delete("school", kept)
    provider.delete("school", {**kept, "removable": True})
    assert provider.diff("school", kept, {**kept, "removable": True}).changes
