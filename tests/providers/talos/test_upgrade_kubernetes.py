"""Kubernetes' images: read out of configs, exchanged one by one, and what is waited for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import yaml

from providers.engine import Reporter
from providers.errors import RefusedError, UnreachableError, UpgradeError
from providers.kubernetes.client import NodeView
from providers.talos.client import TalosError
from providers.talos.compare import same
from providers.talos.kubernetes_upgrade import (
    CONTROL_PLANE,
    KUBELET,
    PROXY,
    Move,
    changed,
    images,
    newer_than,
    path,
    version,
    with_images,
)


def config(kubernetes: str, *, leads: bool = True) -> str:
    parts = {
        "apiServer": "kube-apiserver",
        "controllerManager": "kube-controller-manager",
        "scheduler": "kube-scheduler",
    }
    cluster: dict[str, Any] = {"clusterName": "home"}
    if leads:
        cluster |= {key: {"image": f"registry.k8s.io/{name}:{kubernetes}"} for key, name in parts.items()}
        cluster["proxy"] = {"image": f"registry.k8s.io/kube-proxy:{kubernetes}"}
    machine = {"type": "controlplane", "kubelet": {"image": f"ghcr.io/siderolabs/kubelet:{kubernetes}"}}
    main = {"version": "v1alpha1", "machine": machine, "cluster": cluster}
    other = {"apiVersion": "v1alpha1", "kind": "HostnameConfig", "hostname": "n1", "auto": "off"}
    return yaml.safe_dump_all([main, other])


def test_the_components_that_differ_are_in_the_order_of_their_exchange() -> None:
    assert changed(config("v1.35.4"), config("v1.36.1")) == (*CONTROL_PLANE, PROXY, KUBELET)
    assert changed(config("v1.36.1"), config("v1.36.1")) == ()
    assert changed(config("v1.35.4", leads=False), config("v1.36.1", leads=False)) == (KUBELET,)


def test_one_image_is_exchanged_and_nothing_else() -> None:
    live = config("v1.35.4")
    moved = with_images(live, {KUBELET: "ghcr.io/siderolabs/kubelet:v1.36.1"})
    assert changed(live, moved) == (KUBELET,)
    assert "auto: 'off'" in moved or 'auto: "off"' in moved
    assert same(with_images(moved, images(live)), live)
    worker = config("v1.35.4", leads=False)
    assert same(with_images(worker, {"kube-scheduler": "x:v1"}), worker)


@pytest.mark.parametrize(
    "image",
    ["ghcr.io/siderolabs/kubelet:v1.36.1", "10.0.0.3:5000/kubelet:v1.36.1-slim", "a/kubelet:v1.36.1@sha256:00"],
)
def test_the_version_of_an_image(image: str) -> None:
    assert version(image) == "v1.36.1"


def test_no_kubelet_is_newer_than_an_api_server() -> None:
    assert newer_than("v1.36.1", {"v1.36.0", "v1.35.4"}) == "v1.35.4"
    assert newer_than("v1.36.1", {"v1.36.0"}) == ""


def test_where_talos_own_objects_stand() -> None:
    daemon = {"kind": "DaemonSet", "metadata": {"name": "kube-proxy", "namespace": "kube-system"}}
    assert path(daemon) == "/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy"
    role = {"kind": "ClusterRole", "metadata": {"name": "flannel"}}
    assert path(role) == "/apis/rbac.authorization.k8s.io/v1/clusterroles/flannel"


class Cluster:
    """A node and its cluster, whose pods follow the config after some looks."""

    def __init__(self, kubernetes: str = "v1.35.4", servers: str = "v1.36.1") -> None:
        self.text = config(kubernetes)
        self.applied: list[tuple[str, ...]] = []
        self.put: list[str] = []
        self.pulled: list[tuple[str, bool]] = []
        self.refuses: Exception | None = None
        self.servers = servers
        self.shown = images(self.text)
        self.looks = 0
        self.away = 0

    def config(self) -> str:
        return self.text

    def apply(self, config: str, *_: Any) -> Any:
        self.applied.append(changed(self.text, config))
        self.text = config

    def pull(self, image: str, *, system: bool) -> None:
        self.pulled.append((image, system))
        if self.refuses is not None:
            raise self.refuses

    def manifests(self) -> list[dict[str, Any]]:
        daemon = {"kind": "DaemonSet", "metadata": {"name": "kube-proxy", "namespace": "kube-system"}}
        return [daemon, {"kind": "Secret", "metadata": {"name": "bootstrap-token-x"}}]

    @contextmanager
    def connect(self) -> Iterator[Any]:
        self.looks += 1
        if self.away:
            self.away -= 1
            raise UnreachableError("the API restarts")
        if self.looks > 2:
            self.shown = images(self.text)
        yield _Api(self)

    def move(self) -> Move:
        return Move("n1", self, self.connect, Reporter(""))


class _Api:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def look(self, path: str) -> Mapping[str, Any] | None:
        if "labelSelector" in path:
            return {"items": [_pod(f"registry.k8s.io/kube-apiserver:{self._cluster.servers}")]}
        component = path.rpartition("/")[2].removesuffix("-n1")
        return _pod(self._cluster.shown[component])

    def node(self, name: str) -> NodeView | None:
        kubelet = version(self._cluster.shown[KUBELET])
        return NodeView(name, "uid", True, "", "boot", kubelet, ("10.0.0.1",), False)

    def apply(self, path: str, body: Mapping[str, Any], manager: str) -> Mapping[str, Any]:
        self._cluster.put.append(path)
        return body


def _pod(image: str) -> dict[str, Any]:
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    return {"metadata": {}, "spec": {"containers": [{"image": image}]}, "status": ready}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMELAB_TIME_SCALE", "0.001")


def test_a_pod_is_waited_for_through_a_restart_of_the_api() -> None:
    cluster = Cluster()
    cluster.away = 1
    cluster.move().pod("kube-apiserver", "registry.k8s.io/kube-apiserver:v1.36.1")
    assert cluster.applied == [("kube-apiserver",)]
    assert cluster.looks > 2


def test_what_was_exchanged_before_is_only_waited_for() -> None:
    cluster = Cluster("v1.36.1")
    cluster.move().pod("kube-scheduler", "registry.k8s.io/kube-scheduler:v1.36.1")
    cluster.move().kubelet("ghcr.io/siderolabs/kubelet:v1.36.1")
    assert cluster.applied == []


def test_a_kubelet_waits_for_its_node_to_say_so() -> None:
    cluster = Cluster()
    cluster.move().kubelet("ghcr.io/siderolabs/kubelet:v1.36.1")
    assert cluster.applied == [(KUBELET,)]


def test_a_kubelet_is_not_touched_while_an_api_server_is_older() -> None:
    cluster = Cluster(servers="v1.35.4")
    with pytest.raises(RefusedError, match=r"an API server is still at v1\.35\.4"):
        cluster.move().kubelet("ghcr.io/siderolabs/kubelet:v1.36.1")
    assert cluster.applied == []


def test_talos_own_objects_are_applied_but_no_secret_of_it() -> None:
    cluster = Cluster()
    cluster.move().manifests()
    assert cluster.put == ["/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy"]


def test_images_are_pulled_before_anything_stops() -> None:
    cluster, server = Cluster(), "registry.k8s.io/kube-apiserver:v1.36.1"
    cluster.move().pod("kube-apiserver", server)
    cluster.move().kubelet("ghcr.io/siderolabs/kubelet:v1.36.1")
    assert cluster.pulled == [(server, False), ("ghcr.io/siderolabs/kubelet:v1.36.1", True)]


def test_an_image_that_nobody_has_changes_nothing() -> None:
    cluster = Cluster()
    cluster.refuses = TalosError("n1: ImagePull: not found", "UNKNOWN")
    with pytest.raises(UpgradeError, match=r"v1\.36\.9 can't be pulled, nothing was changed: .*not found"):
        cluster.move().pod("kube-apiserver", "registry.k8s.io/kube-apiserver:v1.36.9")
    assert cluster.applied == []


def test_a_node_that_can_not_pull_beforehand_pulls_when_it_has_to() -> None:
    cluster = Cluster()
    cluster.refuses = TalosError("n1: ImagePull: unknown method", "UNIMPLEMENTED")
    cluster.move().kubelet("ghcr.io/siderolabs/kubelet:v1.36.1")
    assert cluster.applied == [(KUBELET,)]
