"""What the program asks for where there are tenants, and that it asks for nothing of it where there are none."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import datastore, kamaji
from components.images_needed import needed
from components.metallb import pools
from components.tenants import control_plane, schema
from settings import Settings, from_values
from settings.tenants import Tenant
from tests.components.house import ROOT, Made, build, of_kind

FILE = ROOT / "tests" / "settings" / "valid" / "tenants.yaml"


def lab(**change: Any) -> Settings:
    """The sample lab with two tenants, but for `change` of its sections."""
    config = yaml.safe_load(FILE.read_text())["config"]
    config["homelab:boards"]["board1"]["password"] = "turing"  # of no board
    config.update({f"homelab:{section}": value for section, value in change.items()})
    return from_values({section: json.dumps(value) for section, value in config.items()})


@pytest.fixture(scope="module")
def made() -> Made:
    return build(lab())


def test_a_tenants_api_has_the_address_that_its_certificates_are_made_for(made: Made) -> None:
    spec = of_kind(made, "TenantControlPlane")["school/school"]["spec"]
    annotations = spec["controlPlane"]["service"]["additionalMetadata"]["annotations"]
    assert spec["networkProfile"]["address"] == annotations["metallb.io/loadBalancerIPs"] == "192.168.1.201"
    assert spec["networkProfile"]["port"] == 6443
    assert "192.168.1.201" in spec["networkProfile"]["certSANs"]
    assert spec["controlPlane"]["service"]["serviceType"] == "LoadBalancer"


def test_defaults_and_all_keys_reach_the_control_plane(made: Made) -> None:
    found = of_kind(made, "TenantControlPlane")
    one, other = found["school/school"]["spec"], found["workshop/workshop"]["spec"]
    assert (one["dataStore"], other["dataStore"]) == ("default", "workshop")
    assert one["addons"]["konnectivity"]["server"] == {"port": 8132}
    assert "konnectivity" not in other["addons"]
    assert (one["controlPlane"]["deployment"]["replicas"], other["controlPlane"]["deployment"]["replicas"]) == (2, 1)
    assert (one["kubernetes"]["version"], other["kubernetes"]["version"]) == ("v1.36.1", "v1.35.4")
    network = other["networkProfile"]
    assert (network["podCidr"], network["serviceCidr"]) == ("10.249.0.0/16", "10.113.0.0/20")
    assert network["dnsServiceIPs"] == ["10.113.0.10"]
    assert network["certSANs"] == ["192.168.1.202", "workshop.home.example", "203.0.113.7"]


def test_two_tenants_of_one_etcd_have_prefixes_of_their_own() -> None:
    settings = Tenant.model_validate({"version": "v1.36.1", "address": "192.168.1.201"})
    specs = [control_plane(name, settings, "default")["spec"] for name in ("a-b", "ab")]
    assert [spec["dataStoreSchema"] for spec in specs] == [schema("a-b"), schema("ab")] == ["tenant_a_b", "tenant_ab"]


def test_there_is_an_etcd_for_all_and_one_for_whom_it_is_asked(made: Made) -> None:
    assert set(of_kind(made, "StatefulSet")) == {"kamaji-system/kamaji-etcd", "workshop/kamaji-etcd"}
    stores = of_kind(made, "DataStore")
    assert set(stores) == {"/default", "/workshop"}
    secret = stores["/workshop"]["spec"]["tlsConfig"]["clientCertificate"]["certificate"]["secretReference"]
    assert secret == {"name": "kamaji-etcd-root", "namespace": "workshop", "keyPath": "tls.crt"}
    assert stores["/workshop"]["spec"]["endpoints"] == ["kamaji-etcd-0.kamaji-etcd.workshop.svc.cluster.local:2379"]


def test_an_etcd_keeps_its_data_on_a_volume_of_longhorns(made: Made) -> None:
    spec = of_kind(made, "StatefulSet")["kamaji-system/kamaji-etcd"]["spec"]
    (claim,) = spec["volumeClaimTemplates"]
    assert claim["spec"]["storageClassName"] == "longhorn"
    assert spec["replicas"] == 1, "the sample lab has one node"
    assert "--client-cert-auth=true" in spec["template"]["spec"]["containers"][0]["args"]


def test_with_policies_an_etcd_is_reached_by_those_who_use_it_alone() -> None:
    config = yaml.safe_load(FILE.read_text())["config"]
    cluster, platform = config["homelab:cluster"], config["homelab:platform"]
    found = build(lab(cluster={**cluster, "cni": "cilium"}, platform={**platform, "network_policies": True}))
    policies = {name: item for name, item in of_kind(found, "NetworkPolicy").items() if "etcd" in name}
    assert {name: set(_doors(policy)) for name, policy in policies.items()} == {
        "kamaji-system/kamaji-etcd": {
            (2379, "kamaji-system"),
            (2379, "school"),
            (2379, "workshop"),
            (2380, "kamaji-system"),
        },
        "workshop/kamaji-etcd": {(2379, "workshop"), (2379, "kamaji-system"), (2380, "workshop")},
    }


def _doors(policy: dict[str, Any]) -> Iterator[tuple[int, str]]:
    for rule in policy["spec"]["ingress"]:
        (origin,) = rule["from"]
        yield rule["ports"][0]["port"], origin["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]


def test_three_nodes_carry_three_members() -> None:
    assert [datastore.manifest("default", "x", count)["spec"]["endpoints"] for count in (1, 3)] == [
        [f"kamaji-etcd-{n}.kamaji-etcd.x.svc.cluster.local:2379" for n in range(count)] for count in (1, 3)
    ]


def test_metallb_gives_a_tenants_address_to_nobody_else() -> None:
    wanted = lab()
    found = pools(wanted.platform, (tenant.address for tenant in wanted.tenants.values()))
    assert found["reserved"]["addresses"] == ["192.168.1.201/32", "192.168.1.202/32", "192.168.1.210/32"]
    assert found["lan"]["addresses"] == [
        "192.168.1.200-192.168.1.200",
        "192.168.1.203-192.168.1.209",
        "192.168.1.211-192.168.1.220",
    ]


def test_every_value_is_one_that_the_chart_has(made: Made) -> None:
    assert made["kamaji-chart"].inputs["values"] == kamaji.values()


def test_what_a_lab_with_tenants_fetches() -> None:
    found = needed(lab())
    assert found.charts["kamaji"].version == "0.0.0+latest"
    assert {"docker.io/clastix/kamaji:26.8.2-edge", "registry.k8s.io/kube-apiserver:v1.35.4"} <= set(found.images)
    assert "quay.io/coreos/etcd:v3.6.12" in found.images
    assert any("Konnectivity" in note for note in found.notes)


def test_a_lab_without_tenants_has_nothing_of_them() -> None:
    without = build(lab(tenants={}))
    assert not [name for name in without if "kamaji" in name or name.startswith(("school", "workshop"))]
    assert "kamaji" not in needed(lab(tenants={})).charts


def test_a_lab_without_tenants_imports_nothing_of_them() -> None:
    code = (
        "import sys; import components.platform, components.outputs, components.pool;"
        "print([name for name in sys.modules if 'tenant' in name and not name.startswith('settings')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(ROOT), capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_tenant_goes_after_its_guard_and_with_the_cluster(made: Made) -> None:
    assert {"school-namespace", "school-control-plane", "school-api", "school-join", "school-kept"} <= set(made)
    assert {"workshop-etcd", "workshop-datastore", "kamaji-etcd", "kamaji-datastore", "kamaji-webhook"} <= set(made)
