"""Kubernetes' images, exchanged in the order in which `talosctl upgrade-k8s` exchanges them; no node reboots.

https://github.com/siderolabs/talos/blob/v1.12.0/pkg/cluster/kubernetes/upgrade.go: for each of API server, controller
manager and scheduler, on one control plane after the other, the image in the machine config is changed and the pod is
waited for; then the kubelets, control planes first: a kubelet must never be newer than an API server. What Talos has
put into the cluster itself (kube-proxy, CoreDNS, flannel) it only ever creates, so the new version of it is applied
here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from providers import pace
from providers.deadline import Deadline
from providers.engine import Reporter
from providers.errors import DeadlineError, ProtocolError, RefusedError, UnreachableError, UpgradeError
from providers.kubernetes.client import NodeView
from providers.talos import documents, skew
from providers.talos.client import TalosError

POD_S = 600.0  # pulling an image comes before the pod
KUBELET_S = 600.0
APPLY_S = 180.0

CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
"""The control plane's pods, in the order of their exchange."""
PROXY, KUBELET = "kube-proxy", "kubelet"
_PATHS = {
    "kube-apiserver": ("cluster", "apiServer", "image"),
    "kube-controller-manager": ("cluster", "controllerManager", "image"),
    "kube-scheduler": ("cluster", "scheduler", "image"),
    PROXY: ("cluster", "proxy", "image"),
    KUBELET: ("machine", "kubelet", "image"),
}
_KINDS = {
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings",
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "ConfigMap": "/api/v1/namespaces/{namespace}/configmaps",
    "Service": "/api/v1/namespaces/{namespace}/services",
    "DaemonSet": "/apis/apps/v1/namespaces/{namespace}/daemonsets",
    "Deployment": "/apis/apps/v1/namespaces/{namespace}/deployments",
}
_MANAGER = "talos"
_NOT_KNOWN = "UNIMPLEMENTED"  # a call that comes and goes with versions; the image is then pulled when it is needed


def images(config: str) -> dict[str, str]:
    """The image of each component that a machine config names."""
    main = documents.main(documents.load(config))
    found = {name: _at(main, path) for name, path in _PATHS.items()}
    return {name: image for name, image in found.items() if image}


def with_images(config: str, wished: Mapping[str, str]) -> str:
    """The same config with other images; a component that it does not name stays unnamed."""
    found = documents.load(config)
    main = documents.main(found)
    for name in images(config).keys() & wished.keys():
        first, second, last = _PATHS[name]
        main[first][second][last] = wished[name]
    return documents.dump(found)


def changed(live: str, wished: str) -> tuple[str, ...]:
    """The components whose image differs, in the order of their exchange."""
    before, after = images(live), images(wished)
    return tuple(name for name in _PATHS if name in before and name in after and before[name] != after[name])


def version(image: str) -> str:
    """The version in an image's tag: of `.../kubelet:v1.36.1-slim@sha256:...` it is `v1.36.1`."""
    tag = image.partition("@")[0].rpartition(":")[2]
    return tag.removesuffix("-slim").removesuffix("-fat")


def newer_than(kubelet: str, servers: Collection[str]) -> str:
    """The version of an API server that a kubelet of this version would be newer than; "" when none is older."""
    older = sorted(version for version in servers if skew.minor(version) < skew.minor(kubelet))
    return older[0] if older else ""


def _at(main: Mapping[str, Any], path: tuple[str, ...]) -> str:
    found: Any = main
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return str(found or "")


class Device(Protocol):
    """A node's machine config, and what Talos would put into the cluster."""

    def config(self) -> str:
        """The live config."""

    def pull(self, image: str, *, system: bool) -> None:
        """Fetch an image; `system` for the kubelet's."""

    def apply(self, config: str) -> None:
        """Have it taken without a reboot."""

    def manifests(self) -> list[dict[str, Any]]:
        """Talos' own objects."""


class Api(Protocol):
    """The part of a cluster's API that is used here; `providers.kubernetes.client.Kube` is one."""

    def look(self, path: str) -> Mapping[str, Any] | None:
        """Any object or list; None when there is no such thing."""

    def node(self, name: str) -> NodeView | None:
        """A node; None when the cluster does not know it."""

    def apply(self, path: str, body: Mapping[str, Any], manager: str) -> Mapping[str, Any]:
        """Have an object be so."""


Connect = Callable[[], AbstractContextManager[Api]]


@dataclass(frozen=True)
class Move:
    """One node on its way to other images.

    Attributes:
        node: its name, in Talos and in Kubernetes.
        device: its Talos API.
        connect: opens the Kubernetes API, over whichever control plane serves it.
        report: told what is waited for.
    """

    node: str
    device: Device
    connect: Connect
    report: Reporter

    def pod(self, component: str, image: str) -> None:
        """Exchange one of the control plane's pods and wait until the new one is Ready.

        The mirror pod is looked at, not Talos' own record of it: it says what the API server says, image and Ready.

        Raises:
            UpgradeError: it was not in time.
        """
        self._set(component, image)
        self.report.progress(f"waiting for {component} {version(image)}")
        path = f"/api/v1/namespaces/kube-system/pods/{component}-{self.node}"
        self._wait(lambda api: _pod_lack(api.look(path), image), f"{component} {version(image)}", POD_S)

    def proxy(self, image: str) -> None:
        """Note kube-proxy's image; its pods follow with the manifests."""
        self._set(PROXY, image)

    def kubelet(self, image: str) -> None:
        """Exchange the kubelet and wait until the Node says its version and is Ready.

        Raises:
            RefusedError: an API server is older; nothing was done.
            UpgradeError: it was not in time.
        """
        wished = version(image)
        older = newer_than(wished, self._servers())
        if older:
            raise RefusedError(
                f"{self.node}: its kubelet stays as it is: an API server is still at {older}, and no kubelet may be "
                "newer; run `homelab up` for all nodes"
            )
        self._set(KUBELET, image)
        self.report.progress(f"waiting for kubelet {wished}")
        self._wait(lambda api: _kubelet_lack(api.node(self.node), wished), f"kubelet {wished}", KUBELET_S)

    def manifests(self) -> None:
        """Bring what Talos has put into the cluster to what its config says now; nothing is deleted.

        Raises:
            UnreachableError: the API did not serve in time.
        """
        self.report.progress("applying Talos' own manifests")
        wanted = [item for item in self.device.manifests() if item.get("kind") in _KINDS]

        def put() -> bool | None:
            try:
                with self.connect() as api:
                    for item in wanted:
                        api.apply(path(item), item, _MANAGER)
            except UnreachableError:
                return None
            return True

        Deadline(pace.limit(APPLY_S)).poll(put, f"{self.node}: Talos' own manifests", pace.interval(3))

    def _set(self, component: str, image: str) -> None:
        live = self.device.config()
        if images(live).get(component) != image:
            self.report.progress(f"pulling {image}")
            self._pull(component, image)
            self.device.apply(with_images(live, {component: image}))

    def _pull(self, component: str, image: str) -> None:
        """Before anything stops: a pod that waits for its image is a pod that is away."""
        try:
            self.device.pull(image, system=component == KUBELET)
        except TalosError as error:
            if error.code != _NOT_KNOWN:
                raise UpgradeError(f"{self.node}: {image} can't be pulled, nothing was changed: {error}") from error

    def _servers(self) -> set[str]:
        found: Mapping[str, Any] = {}

        def look() -> Mapping[str, Any] | None:
            try:
                with self.connect() as api:
                    return api.look("/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3Dkube-apiserver") or {}
            except UnreachableError:
                return None

        found = Deadline(pace.limit(APPLY_S)).poll(look, f"{self.node}: the API servers' versions", pace.interval(3))
        return {version(_image(pod)) for pod in found.get("items", ())}

    def _wait(self, lack: Callable[[Api], str], what: str, seconds: float) -> None:
        """Poll until nothing lacks; an API that is away for a moment, or for a restart, is waited for."""
        last = ""

        def settled() -> bool | None:
            nonlocal last
            try:
                with self.connect() as api:
                    last = lack(api)
            except UnreachableError as error:
                last = str(error)
            return None if last else True

        try:
            Deadline(pace.limit(seconds)).poll(settled, f"{self.node}: {what}", pace.interval(2))
        except DeadlineError as error:
            raise UpgradeError(
                f"{error}: {last}; nothing is lost, the old version runs on the other nodes. `talosctl logs kubelet` "
                "tells more; put the version in the settings back, or run this again"
            ) from None


def path(item: Mapping[str, Any]) -> str:
    """Where an object of Talos' own stands in the Kubernetes API."""
    metadata = item.get("metadata") or {}
    return f"{_KINDS[item['kind']].format(namespace=metadata.get('namespace', 'kube-system'))}/{metadata['name']}"


def _image(pod: Mapping[str, Any]) -> str:
    try:
        return str(pod["spec"]["containers"][0]["image"])
    except (KeyError, IndexError, TypeError):
        raise ProtocolError("a pod without a container's image") from None


def _pod_lack(pod: Mapping[str, Any] | None, image: str) -> str:
    if pod is None:
        return "its pod is not there yet"
    if _image(pod) != image:
        return f"its pod still runs {version(_image(pod))}"
    conditions = pod.get("status", {}).get("conditions") or ()
    ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
    return "" if ready and "deletionTimestamp" not in pod["metadata"] else "its new pod is not Ready"


def _kubelet_lack(view: NodeView | None, wished: str) -> str:
    if view is None:
        return "the cluster does not know the node"
    if view.kubelet != wished:
        return f"its Node says {view.kubelet}"
    return "" if view.ready else f"its Node is not Ready ({view.reason})"
