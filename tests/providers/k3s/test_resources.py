"""What is refused before anything is touched, and the names that state holds."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from providers.k3s import files, membership, resources
from providers.kubernetes import departure
from providers.ssh.resources import PreparedProvider

OLD = {
    "host": "rpi1", "cluster": "garage", "role": "worker", "version": "v1.36.3+k3s1", "generation": 1,
    "pod_subnet": "10.42.0.0/16", "service_subnet": "10.43.0.0/16",
}  # fmt: skip


def problems(**changed: Any) -> list[str]:
    return [reason for _, reason in resources.NodeProvider().problems(OLD, {**OLD, **changed})]


@pytest.mark.parametrize("version", ["v1.36.3+k3s1", "v1.36.9+k3s2", "v1.37.0+k3s1"])
def test_versions_that_it_can_go_to(version: str):
    assert problems(version=version) == []


@pytest.mark.parametrize("version", ["v1.35.9+k3s1", "v1.38.0+k3s1"])
def test_versions_that_it_can_not_go_to(version: str):
    assert problems(version=version) == ["rpi1 runs v1.36.3+k3s1: go to v1.37.x next, minor by minor"]


def test_what_a_node_has_for_life():
    (said,) = problems(role="controlplane")
    assert said.startswith("hosts.rpi1: role was worker and can't become controlplane while it is a node; take it out")
    assert problems(generation=0) == ["hosts.rpi1.generation only grows; it was 1"]


def test_the_providers_names_are_the_states_format():
    found = [getattr(resources, name) for name in dir(resources) if name.endswith("Provider")]
    own = {f"{one.__module__}.{one.__name__}" for one in found if one.__module__.startswith("providers.k3s")}
    assert own == {f"providers.k3s.resources.{name}Provider" for name in ("Cluster", "Member", "Node", "Token")}
    assert f"{PreparedProvider.__module__}.{PreparedProvider.__name__}" == "providers.ssh.resources.PreparedProvider"


class Nodes:
    """A cluster that has these Nodes: name -> roles, and whether it is Ready."""

    def __init__(self, **nodes: tuple[str, bool]) -> None:
        self.items = [self._node(name, roles, ready=ready) for name, (roles, ready) in nodes.items()]

    def look(self, _path: str) -> dict[str, Any]:
        return {"items": self.items}

    @staticmethod
    def _node(name: str, roles: str, *, ready: bool) -> dict[str, Any]:
        labels = {f"node-role.kubernetes.io/{role}": "true" for role in roles.split()}
        conditions = [{"type": "Ready", "status": str(ready)}]
        addresses = [{"type": "InternalIP", "address": f"10.0.0.{ord(name) - 96}"}]
        metadata = {"name": name, "uid": name, "labels": labels}
        return {"metadata": metadata, "status": {"conditions": conditions, "addresses": addresses}}


BOTH = "control-plane etcd"


@pytest.mark.parametrize(
    ("nodes", "name", "word"),
    [
        (Nodes(a=("control-plane", True), b=("", True)), "b", None),
        (Nodes(a=("control-plane", True), b=("", True)), "a", "the last control plane"),
        (Nodes(a=(BOTH, True), b=(BOTH, True), c=(BOTH, True)), "a", None),
        (Nodes(a=(BOTH, False), b=(BOTH, True), c=(BOTH, True)), "a", None),
        (Nodes(a=(BOTH, False), b=(BOTH, True), c=(BOTH, True)), "b", "1 of 2 etcd members would be healthy"),
        (Nodes(a=(BOTH, False), b=(BOTH, False), c=(BOTH, True)), "a", "etcd has no quorum"),
    ],
)
def test_who_may_leave(nodes: Nodes, name: str, word: str | None):
    reason = departure.why_not_leave(nodes, name)  # type: ignore[arg-type]
    assert reason is None if word is None else word in (reason or "")


@pytest.mark.parametrize(
    ("nodes", "way"),
    [
        (Nodes(a=(BOTH, True), b=(BOTH, True), c=(BOTH, True)), "https://10.0.0.2:6443"),
        (Nodes(a=(BOTH, True), b=(BOTH, False), c=(BOTH, True)), "https://10.0.0.3:6443"),
        (Nodes(a=("control-plane", True), b=("", True)), None),
    ],
)
def test_who_is_asked_while_a_leaves(nodes: Nodes, way: str | None):
    assert membership.another_server(nodes, "a", 6443) == way  # type: ignore[arg-type]


def test_kube_vips_manifest_is_what_kubernetes_reads():
    documents = list(yaml.safe_load_all(files.kube_vip("192.168.1.240", 6443)))
    assert [one["kind"] for one in documents] == ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "DaemonSet"]
    pod = documents[-1]["spec"]["template"]["spec"]
    settings = {item["name"]: item.get("value") for item in pod["containers"][0]["env"]}
    assert (settings["address"], settings["cp_enable"], settings["svc_enable"]) == ("192.168.1.240", "true", "false")
    assert "latest" not in pod["containers"][0]["image"]


def test_a_kubeconfig_for_use_from_elsewhere():
    given = {
        "clusters": [{"cluster": {"server": "https://127.0.0.1:6443", "certificate-authority-data": "Q0E="}}],
        "users": [{"name": "default", "user": {"client-certificate-data": "QQ==", "client-key-data": "Sw=="}}],
    }  # fmt: skip
    made = yaml.safe_load(files.kubeconfig(yaml.safe_dump(given).encode(), "garage", "https://10.0.0.9:6443"))
    assert made["clusters"][0]["cluster"]["server"] == "https://10.0.0.9:6443"
    assert made["current-context"] == "admin@garage"
    assert made["users"][0]["user"]["client-key-data"] == "Sw=="


def test_an_agent_may_go_to_another_cluster_of_any_version():
    assert problems(cluster="barn", version="v1.35.1+k3s1", pod_subnet="10.52.0.0/16") == []


def test_a_server_may_not():
    server = {**OLD, "role": "controlplane"}
    (said,) = (text for _, text in resources.NodeProvider().problems(server, {**server, "cluster": "barn"}))
    assert said.startswith("hosts.rpi1: cluster was garage and can't become barn while it is a node; take it out first")
