"""A small cluster for the tests of the players, and what is put into it by hand."""

import time
from collections.abc import Callable
from typing import Any

from tests.twin.talos_scene import Scene
from tools import paths
from twin.kubernetes.api import Api, ApiError
from twin.talos.api import machine_pb2 as pb
from twin.talos.pki import client_context, issue

Object = dict[str, Any]


class Lab:
    """A running cluster; calls go to the API server of the machine `server`."""

    def __init__(self, machines: int = 2, leading: int = 1, scale: float = 0.01) -> None:
        self.server = "m1"
        self.scene = Scene(machines, tools=paths.servers(), scale=scale)
        self.names = [f"m{number}" for number in range(1, machines + 1)]
        try:
            self._boot(leading)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End it; workers go first, for one that loses its API server hammers at its own relay while that closes."""
        for name in reversed(self.names):
            self.scene.do(self.scene.machines[name].power_off)
        self.scene.close()

    def _boot(self, leading: int) -> None:
        self.scene.maintenance(*self.names)
        for name in self.names:
            self.scene.configure(name, "controlplane" if name in self.names[:leading] else "worker")
        self.scene.until(lambda: self.scene.system("m1").etcd)
        self.scene.secure("m1", "Bootstrap", pb.BootstrapRequest())
        self.scene.until(lambda: all((it := self.scene.system(n).kubelet) and it.ready for n in self.names), 90)

    def call(self, method: str, *words: Any) -> Any:
        """A call to Kubernetes as its administrator."""

        async def call() -> Any:
            ca = self.scene.cluster.kubernetes
            leaf = issue(ca, "test", ["system:masters"], client=True)
            address = self.scene.machines[self.server].spec.address
            async with Api(f"https://{address}:6443", client_context(ca.crt, leaf)) as api:
                return await getattr(api, method)(*words)

        return self.scene.run(call())

    def get(self, path: str) -> Object | None:
        """An object, None if there is none."""
        try:
            return dict(self.call("get", path))
        except ApiError as error:
            if error.status not in (404, 429):  # 429: a kind that was defined just now
                raise
            return None

    def items(self, path: str) -> list[Object]:
        """The objects of a list."""
        return list(self.call("get", path)["items"])

    def namespace(self, name: str) -> None:
        """Make a namespace, and wait for the account that its pods use."""
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        self.call("create", "/api/v1/namespaces", body)
        wait(lambda: self.get(f"/api/v1/namespaces/{name}/serviceaccounts/default"))

    def crd(self, group: str, version: str, plural: str, kind: str, *, scope: str = "Namespaced") -> None:
        """Define a kind that takes everything, and wait until it is served."""
        schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        served = {
            "name": version,
            "served": True,
            "storage": True,
            "schema": {"openAPIV3Schema": schema},
            "subresources": {"status": {}},
        }
        spec = {
            "group": group,
            "scope": scope,
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"},
            "versions": [served],
        }
        body = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}"},
            "spec": spec,
        }
        self.call("create", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", body)
        wait(lambda: self.get(f"/apis/{group}/{version}/{plural}") is not None)

    def workload(self, kind: str, name: str, namespace: str, *args: str, image: str = "example.org/it:1") -> None:
        """A Deployment or DaemonSet, waited for until a pod of it is ready."""
        labels = {"app": name}
        pod = {
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "it", "image": image, "args": list(args)}],
        }
        spec = {"selector": {"matchLabels": {"app": name}}, "template": {"metadata": {"labels": labels}, "spec": pod}}
        body = {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec}
        path = f"/apis/apps/v1/namespaces/{namespace}/{kind.lower()}s"
        self.call("create", path, body)
        wait(lambda: {"availableReplicas", "numberReady"} & {k for k, v in self.status(f"{path}/{name}").items() if v})

    def status(self, path: str) -> Object:
        """An object's status, empty if it has none."""
        return dict((self.get(path) or {}).get("status") or {})

    def put(self, path: str, kind: str, name: str, namespace: str = "", /, **body: Any) -> str:
        """Create an object in a folder and give its path; the folder tells its apiVersion."""
        version = path.removeprefix("/apis/").removeprefix("/api/").split("/namespaces/")[0]
        version = version if "/namespaces/" in path else version.rpartition("/")[0]
        meta = {"name": name, **body.pop("metadata", {})}
        self.patiently("create", path, {"apiVersion": version, "kind": kind, "metadata": meta, **body})
        return f"{path}/{name}"

    def patiently(self, method: str, *words: Any) -> Any:
        """The same as `call`, over the moment in which a kind has just been defined."""
        end = time.monotonic() + 10
        while True:
            try:
                return self.call(method, *words)
            except ApiError as error:
                if error.status not in (404, 429) or time.monotonic() > end:
                    raise
            time.sleep(0.1)


def wait(condition: Callable[[], Any], timeout_s: float = 30) -> Any:
    """The first true answer."""
    end = time.monotonic() + timeout_s
    while not (seen := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
    return seen


def settled(seconds: float = 0.7) -> None:
    """Time for something that must not happen."""
    time.sleep(seconds)
