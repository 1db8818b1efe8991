"""Kamaji as the twin plays it: real API servers at the addresses of tenants. The tests go on from each other's end."""

import base64
import json
import ssl
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from tests.twin.players_lab import Lab, settled, wait
from tools import paths
from twin.kubernetes.players.kamaji import Running
from twin.kubernetes.players.pki import Wish, b64, issue

pytestmark = [
    pytest.mark.skipif(not paths.servers_bin().exists(), reason="make tools builds the servers"),
    pytest.mark.timeout(240),
]
ROOT = Path(__file__).parents[2]
API = "/apis/kamaji.clastix.io/v1alpha1"
TENANTS = f"{API}/namespaces/school/tenantcontrolplanes"
SCHOOL = f"{TENANTS}/school"
ADMIN = "/api/v1/namespaces/school/secrets/school-admin-kubeconfig"
METALLB = "/apis/metallb.io/v1beta1/namespaces/metallb-system"
Object = dict[str, Any]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    made = Lab()
    try:
        _house(made)
        yield made
    finally:
        made.close()


def _house(made: Lab) -> None:
    """MetalLB with a pool, the operator, and an etcd with its DataStore."""
    for name in ("metallb-system", "kamaji-system", "school"):
        made.namespace(name)
    for plural, kind in (("ipaddresspools", "IPAddressPool"), ("l2advertisements", "L2Advertisement")):
        made.crd("metallb.io", "v1beta1", plural, kind)
    made.put(f"{METALLB}/ipaddresspools", "IPAddressPool", "house", spec={"addresses": [f"{made.scene.net}.200/29"]})
    made.workload("Deployment", "metallb-controller", "metallb-system")
    for body in yaml.safe_load_all((ROOT / "twin/charts/kamaji/crds/kamaji.yaml").read_text()):
        made.call("create", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", body)
    wait(lambda: made.get(TENANTS) is not None and made.get(f"{API}/datastores") is not None)
    pod = {"metadata": {"labels": {"app": "etcd"}}, "spec": {"containers": [{"name": "etcd", "image": "e.org/it:1"}]}}
    spec = {"serviceName": "etcd", "selector": {"matchLabels": {"app": "etcd"}}, "template": pod}
    made.put("/apis/apps/v1/namespaces/kamaji-system/statefulsets", "StatefulSet", "etcd", spec=spec)
    ca = issue(Wish("etcd-ca", authority=True, algorithm="ECDSA"))
    data = {"tls.crt": b64(ca.crt), "tls.key": b64(ca.key)}
    made.put("/api/v1/namespaces/kamaji-system/secrets", "Secret", "etcd-ca", data=data)
    made.put(f"{API}/datastores", "DataStore", "default", spec=_store("etcd-ca"))


def _store(secret: str) -> Object:
    where = {"name": secret, "namespace": "kamaji-system"}
    pair = {
        part: {"secretReference": {**where, "keyPath": key}}
        for part, key in (("certificate", "tls.crt"), ("privateKey", "tls.key"))
    }
    endpoints = ["etcd-0.etcd.kamaji-system.svc.cluster.local:2379"]
    return {"driver": "etcd", "endpoints": endpoints, "tlsConfig": {"certificateAuthority": pair}}


def address(lab: Lab) -> str:
    return f"{lab.scene.net}.201"


def tenant(said: str, given: str | None = None) -> Object:
    annotations = {"metallb.io/loadBalancerIPs": given or said}
    service = {"serviceType": "LoadBalancer", "additionalMetadata": {"annotations": annotations}}
    return {
        "dataStore": "default",
        "dataStoreSchema": "tenant_school",
        "controlPlane": {"deployment": {"replicas": 1}, "service": service},
        "kubernetes": {"version": "v1.36.1", "kubelet": {"cgroupfs": "systemd"}},
        "networkProfile": {"address": said, "port": 6443, "podCidr": "10.248.0.0/16", "serviceCidr": "10.112.0.0/16"},
        "addons": {"konnectivity": {"server": {"port": 8132}}},
    }


def state(lab: Lab) -> str:
    resources = lab.status(SCHOOL).get("kubernetesResources") or {}
    return str((resources.get("version") or {}).get("status"))


def kubeconfig(lab: Lab) -> Object:
    data = lab.call("get", ADMIN)["data"]["admin.conf"]
    return cast(Object, yaml.safe_load(base64.b64decode(data)))


def ask(found: Object, path: str, method: str = "GET", body: Object | None = None) -> Object:
    """A call to a tenant's API, with nothing but its kubeconfig."""
    cluster, user = found["clusters"][0]["cluster"], found["users"][0]["user"]
    context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    with tempfile.NamedTemporaryFile() as pem:
        pem.write(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
        pem.flush()
        context.load_cert_chain(pem.name)
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    asked = urllib.request.Request(cluster["server"] + path, data=data, method=method, headers=headers)
    with urllib.request.urlopen(asked, timeout=10, context=context) as answer:
        return cast(Object, json.load(answer))


def running(lab: Lab) -> Running:
    (found,) = lab.scene.lab.registry["tenants"].values()
    return cast(Running, found)


def keys(lab: Lab, prefix: str) -> list[str]:
    """What the tenants' etcd has below a prefix."""
    (store,) = running(lab).stores.values()
    folder = store.store.folder
    words = [f"--endpoints={store.url}", f"--cacert={folder / 'ca.crt'}"]
    words += [f"--cert={folder / 'root.crt'}", f"--key={folder / 'root.key'}"]
    command = [str(paths.servers_bin() / "etcdctl"), *words, "get", "--prefix", "--keys-only", prefix]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    return [line for line in done.stdout.splitlines() if line]


def test_nothing_happens_before_the_operator_runs(lab: Lab) -> None:
    lab.put(TENANTS, "TenantControlPlane", "school", spec=tenant(address(lab), f"{lab.scene.net}.202"))
    settled()
    assert lab.status(SCHOOL) == {}
    assert "tenants" not in lab.scene.lab.registry


def test_an_address_that_metallb_does_not_give_is_not_ready(lab: Lab) -> None:
    lab.workload("Deployment", "kamaji", "kamaji-system")
    wait(lambda: state(lab) == "NotReady")
    service = "/api/v1/namespaces/school/services/school"
    wait(lambda: lab.status(service)["loadBalancer"].get("ingress", [{}])[0].get("ip") == f"{lab.scene.net}.202")
    settled()
    assert state(lab) == "NotReady"
    assert not running(lab).tenants


def test_with_its_address_a_real_api_server_answers_its_administrator(lab: Lab) -> None:
    lab.call("patch", SCHOOL, {"spec": tenant(address(lab))})
    wait(lambda: state(lab) == "Ready", 90)
    found = kubeconfig(lab)
    assert found["clusters"][0]["cluster"]["server"] == f"https://{address(lab)}:6443"
    names = [item["metadata"]["name"] for item in ask(found, "/api/v1/namespaces")["items"]]
    assert {"default", "kube-system", "kube-public"} <= set(names)
    assert lab.status(SCHOOL)["controlPlaneEndpoint"] == f"{address(lab)}:6443"
    service = lab.call("get", "/api/v1/namespaces/school/services/school")
    assert [port["port"] for port in service["spec"]["ports"]] == [6443, 8132]


def test_it_is_a_cluster_of_its_own(lab: Lab) -> None:
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "pupils"}}
    ask(kubeconfig(lab), "/api/v1/namespaces", "POST", body)
    assert lab.get("/api/v1/namespaces/pupils") is None
    assert ask(kubeconfig(lab), "/api/v1/nodes")["items"] == []
    assert "/tenant_school/namespaces/pupils" in keys(lab, "/tenant_school/")


def test_machines_find_what_they_join_by(lab: Lab) -> None:
    found = ask(kubeconfig(lab), "/api/v1/namespaces/kube-public/configmaps/cluster-info")
    cluster = yaml.safe_load(found["data"]["kubeconfig"])["clusters"][0]["cluster"]
    assert cluster == {
        "server": f"https://{address(lab)}:6443",
        "certificate-authority-data": kubeconfig(lab)["clusters"][0]["cluster"]["certificate-authority-data"],
    }


def test_another_version_is_rolled_out_and_keeps_what_was_there(lab: Lab) -> None:
    lab.call("patch", SCHOOL, {"spec": {"kubernetes": {"version": "v1.36.2"}}})
    told = {"status": "Ready", "version": "v1.36.2"}
    wait(lambda: lab.status(SCHOOL)["kubernetesResources"]["version"] == told, 90)
    (deployment,) = lab.items("/apis/apps/v1/namespaces/school/deployments")
    images = [box["image"] for box in deployment["spec"]["template"]["spec"]["containers"]]
    assert images[0] == "registry.k8s.io/kube-apiserver:v1.36.2"
    assert _knows(lab)


def test_its_servers_end_with_their_node_and_come_back_with_what_they_knew(lab: Lab) -> None:
    (servers,) = running(lab).tenants.values()
    name = servers.held.system.machine.name
    if name == "m1":  # its pods' node is the home cluster's only control plane: the servers alone are ended
        lab.scene.do(servers.held.end)
    else:
        lab.scene.do(lab.scene.machines[name].power_off)
        assert not servers.held.alive
        lab.scene.do(lab.scene.machines[name].power_on)
    wait(lambda: _knows(lab), 120)


def _knows(lab: Lab) -> bool:
    try:
        return bool(ask(kubeconfig(lab), "/api/v1/namespaces/pupils"))
    except OSError:
        return False


def test_a_tenant_takes_all_with_it(lab: Lab) -> None:
    wait(lambda: state(lab) == "Ready", 90)
    lab.call("delete", SCHOOL)
    wait(lambda: lab.get(SCHOOL) is None)
    assert not running(lab).tenants
    assert keys(lab, "/tenant_school/") == []
    wait(lambda: lab.get(ADMIN) is None, 60)
    wait(lambda: lab.get("/api/v1/namespaces/school/services/school") is None)
    assert lab.items("/apis/apps/v1/namespaces/school/deployments") == []
