"""A node's kubelet: its certificate and Node object are made as a kubelet makes them, its pods are played by kwok."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from twin.kubernetes.api import Api, ApiError, Object
from twin.kubernetes.controlplane import PORT, admin_leaf
from twin.kubernetes.kubeconfig import kubeconfig
from twin.kubernetes.node import SIGNER, has_network, is_ready, say_ready
from twin.talos.etcd import allowed
from twin.talos.pki import Pair, client_context, is_issued_by, signing_request, write_secret
from twin.talos.process import Process, program
from twin.talos.registry import lan
from twin.talos.relay import Relay

if TYPE_CHECKING:
    from twin.talos.os import Os

PRISM_PORT = 7445
_POLL_S = 0.25
_STAGES = Path(__file__).parent / "stages"
_OWNED = "talos.dev/owned-labels"
_CORDONED = "talos.dev/cordoned"
_NO_NETWORK = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady"


class Kubelet:
    """Runs on every node; needs an API server of the cluster to get anywhere."""

    def __init__(self, system: Os) -> None:
        self.system = system
        self.ready = False
        self._pki = system.machine.disk.ephemeral / "kubelet"
        self._relay = Relay(self._upstreams)
        self._kwok: Process | None = None
        self._ended = False
        self._watch: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """The kubelet's life until its Node is Ready; kwok goes on under its supervisor."""
        system = self.system
        system.service("kubelet", "Starting")
        while not allowed(
            system.address, [str(s) for s in system.at("machine", "kubelet", "nodeIP", "validSubnets", default=[])]
        ):
            await asyncio.sleep(_POLL_S)
        self._relay.listen(system.address, PRISM_PORT)
        system.service("kubelet", "Running", healthy=True)
        while self._prism and not self._ready_servers():
            await asyncio.sleep(2 * _POLL_S)  # asking the neighbours is cheaper than connecting in vain
        leaf = await self._certificate()
        async with self._api(leaf) as api:
            await self._register(api)
            await self.apply_labels()
            await self._uncordon(api)
            if self._ended:
                return  # another one has taken its place meanwhile
            self._start(leaf)
            await self._wait_ready(api)

    def kill(self) -> None:
        """The node lost its power."""
        self._ended = True
        self.ready = False
        self._relay.close()
        if self._kwok is not None:
            self._kwok.kill()

    async def stop(self) -> None:
        """The node shuts down in order."""
        self.kill()

    async def apply_labels(self) -> None:
        """Put the config's labels and taints on the Node: control planes as administrators, workers as themselves.

        What NodeRestriction refuses to a worker is refused here too, and the console says so.
        """
        system = self.system
        leading = system.config_or_fail.control_plane
        api = self._api(admin_leaf(system) if leading else self._stored())
        async with api:
            try:
                await self._label(api)
            except ApiError as error:
                system.machine.uart(f"[talos] controller failed: k8s.NodeApplyController: {error}\n")

    async def cordon_and_drain(self, limit_s: float) -> None:
        """Cordon, and evict every pod that no DaemonSet owns, for at most `limit_s` real seconds."""
        with contextlib.suppress(ApiError, TimeoutError):
            async with self._api(self._stored()) as api, asyncio.timeout(limit_s):
                await self._cordon(api)
                while pods := await self._evictable(api):
                    for pod in pods:
                        with contextlib.suppress(ApiError):
                            await api.evict(pod["metadata"]["namespace"], pod["metadata"]["name"])
                    await asyncio.sleep(_POLL_S)

    async def _cordon(self, api: Api) -> None:
        """With a note that it was Talos who did it, unless somebody else had done it before."""
        path = f"/api/v1/nodes/{self.system.hostname}"
        if not (await api.get(path))["spec"].get("unschedulable"):
            annotations = {_CORDONED: "true"}
            await api.patch(path, {"metadata": {"annotations": annotations}, "spec": {"unschedulable": True}})

    async def _uncordon(self, api: Api) -> None:
        """After a boot Talos opens again what it had closed itself; what somebody else closed stays closed."""
        path = f"/api/v1/nodes/{self.system.hostname}"
        with contextlib.suppress(ApiError):
            if _CORDONED in (await api.get(path))["metadata"].get("annotations", {}):
                annotations = {_CORDONED: None}
                await api.patch(path, {"metadata": {"annotations": annotations}, "spec": {"unschedulable": None}})

    async def _evictable(self, api: Api) -> list[Object]:
        pods = (await api.get(f"/api/v1/pods?fieldSelector=spec.nodeName={self.system.hostname}"))["items"]
        owners = [{owner["kind"] for owner in pod["metadata"].get("ownerReferences", [])} for pod in pods]
        return [pod for pod, kinds in zip(pods, owners, strict=True) if not kinds & {"DaemonSet", "Node"}]

    @property
    def _prism(self) -> bool:
        return bool(self.system.at("machine", "features", "kubePrism", "enabled", default=False))

    def _upstreams(self) -> list[tuple[str, int]]:
        """KubePrism's list: the control planes that answer, the node's own first, then the cluster's endpoint."""
        config = self.system.config_or_fail
        endpoint = [(config.endpoint_host, config.endpoint_port)]
        return [*self._ready_servers(), *endpoint] if self._prism else endpoint

    def _ready_servers(self) -> list[tuple[str, int]]:
        peers = lan(self.system.lab).control_planes(self.system)
        ready = [peer.address for peer in peers if peer.control_plane is not None and peer.control_plane.ready]
        return [(address, PORT) for address in sorted(ready, key=lambda address: address != self.system.address)]

    @property
    def _server(self) -> str:
        return f"https://{self.system.address}:{PRISM_PORT}"

    @property
    def _server_name(self) -> str:
        return "localhost" if self._prism else self.system.config_or_fail.endpoint_host

    def _api(self, leaf: Pair | None, token: str = "") -> Api:
        trusted = self.system.config_or_fail.accepted("cluster")
        return Api(self._server, client_context(trusted, leaf), token, self._server_name)

    def _stored(self) -> Pair | None:
        crt, key = self._pki / "client.crt", self._pki / "client.key"
        return Pair(crt.read_bytes(), key.read_bytes()) if crt.exists() and key.exists() else None

    async def _certificate(self) -> Pair:
        """The client certificate on EPHEMERAL, else one for which the bootstrap token asks.

        One of an authority that is accepted no more is thrown away, as Talos does before it starts the kubelet.
        """
        self._pki.mkdir(mode=0o700, exist_ok=True)
        stored = self._stored()
        if stored is not None and is_issued_by(stored.crt, self.system.config_or_fail.accepted("cluster")):
            return stored
        request, key = signing_request(f"system:node:{self.system.hostname}", "system:nodes")
        async with self._api(None, str(self.system.at("cluster", "token"))) as api:
            crt = await self._signed(api, request)
        write_secret(self._pki / "client.key", key)
        write_secret(self._pki / "client.crt", crt)
        return Pair(crt, key)

    async def _signed(self, api: Api, request: bytes) -> bytes:
        # One for each key, as a kubelet's: an older request of this node still holds its certificate.
        name = f"node-csr-{self.system.hostname}-{hashlib.sha256(request).hexdigest()[:8]}"
        path = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
        body = {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {"name": name},
            "spec": {
                "request": base64.b64encode(request).decode(),
                "signerName": SIGNER,
                "usages": ["digital signature", "client auth"],
            },
        }
        while True:
            with contextlib.suppress(ApiError):
                await api.create(path, body)
                certificate = (await api.get(f"{path}/{name}")).get("status", {}).get("certificate")
                if certificate:
                    return base64.b64decode(certificate)
            await asyncio.sleep(_POLL_S)

    async def _register(self, api: Api) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.system.hostname, "labels": self._own_labels()},
        }
        path = f"/api/v1/nodes/{self.system.hostname}"
        while True:
            try:
                known = await api.create("/api/v1/nodes", body) or await api.get(path)
                await api.patch(f"{path}/status", {"status": self._status(known)}, "strategic-merge-patch")
                return
            except ApiError:
                await asyncio.sleep(_POLL_S)

    def _own_labels(self) -> dict[str, str]:
        labels = {"hostname": self.system.hostname, "os": "linux", "arch": "arm64"}
        return {f"kubernetes.io/{key}": value for key, value in labels.items()}

    def _status(self, known: Object) -> Object:
        """What a starting kubelet says; one that starts again in the same boot leaves the Ready condition alone."""
        spec, config = self.system.machine.spec, self.system.config_or_fail
        image = config.kubelet_image
        version = image.rpartition(":")[2] if ":" in image else "v0.0.0"
        resources = {"cpu": str(spec.cpus), "memory": str(spec.memory_bytes), "pods": "110",
                     "ephemeral-storage": str(spec.disk_bytes)}  # fmt: skip
        release = self.system.machine.disk.image
        info = {
            "machineID": spec.serial, "systemUUID": spec.serial, "bootID": self.system.machine.boot_id,
            "kernelVersion": "6.18.0-talos", "osImage": f"Talos ({release.version if release else 'unknown'})",
            "containerRuntimeVersion": "containerd://2.2.0", "kubeletVersion": version.split("@")[0],
            "kubeProxyVersion": version.split("@")[0], "operatingSystem": "linux", "architecture": "arm64",
        }  # fmt: skip
        addresses = [{"type": "InternalIP", "address": self.system.address},
                     {"type": "Hostname", "address": self.system.hostname}]  # fmt: skip
        condition = {"type": "Ready", "status": "False", "reason": "KubeletNotReady", "message": _NO_NETWORK}
        same_boot = known.get("status", {}).get("nodeInfo", {}).get("bootID") == info["bootID"]
        return {"addresses": addresses, "capacity": resources, "allocatable": resources, "nodeInfo": info,
                **({} if same_boot else {"conditions": [condition]})}  # fmt: skip

    async def _label(self, api: Api) -> None:
        path = f"/api/v1/nodes/{self.system.hostname}"
        node = await api.get(path)
        wanted = self._wanted_labels()
        before = json.loads(node["metadata"].get("annotations", {}).get(_OWNED, "[]"))
        gone = {key: None for key in before if key not in wanted}
        annotations = {_OWNED: json.dumps(sorted(wanted))}
        await api.patch(path, {"metadata": {"labels": {**gone, **wanted}, "annotations": annotations}})
        taints = self._wanted_taints()
        kept = [taint for taint in node["spec"].get("taints", []) if taint["key"].startswith("node.kubernetes.io/")]
        if taints or len(kept) != len(node["spec"].get("taints", [])):
            await api.patch(path, {"spec": {"taints": [*kept, *taints]}})

    def _wanted_labels(self) -> dict[str, str]:
        labels = {str(k): str(v or "") for k, v in self.system.at("machine", "nodeLabels", default={}).items()}
        if self.system.config_or_fail.control_plane:
            labels["node-role.kubernetes.io/control-plane"] = ""
        return labels

    def _wanted_taints(self) -> list[dict[str, str]]:
        taints = []
        for key, text in self.system.at("machine", "nodeTaints", default={}).items():
            value, _, effect = str(text).rpartition(":")
            taints.append({"key": key, "value": value, "effect": effect})
        if self.system.config_or_fail.control_plane and not self._schedulable():
            taints.append({"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"})
        return taints

    def _schedulable(self) -> bool:
        return any(
            self.system.at("cluster", key, default=False)
            for key in ("allowSchedulingOnControlPlanes", "allowSchedulingOnMasters")
        )

    def _start(self, leaf: Pair) -> None:
        folder = self.system.run_folder("kubelet")
        ca = self.system.config_or_fail.accepted("cluster")
        config = write_secret(
            folder / "kubeconfig", kubeconfig(self._server, ca, leaf, tls_server_name=self._server_name)
        )
        stages = write_secret(folder / "stages.yaml", self._stages())
        argv = [
            program(self.system.lab.tools, "kwok"), f"--kubeconfig={config}", f"--config={stages}",
            f"--manage-single-node={self.system.hostname}", f"--node-ip={self.system.address}",
            f"--node-name={self.system.hostname}", "--node-lease-duration-seconds=8", "--enable-crds=",
            f"--cidr={self._pod_network()}", "--v=ERROR",
        ]  # fmt: skip
        env = {"HOME": str(folder), "GOMAXPROCS": "1", "GOGC": "50"}
        self._kwok = Process(argv, self.system.logs / "kubelet.log", env=env)
        self.system.serve(self._kwok)

    def _stages(self) -> bytes:
        names = ["node-heartbeat.yaml", "pod.yaml"]
        if self.system.config_or_fail.cni() != "none":
            names.insert(0, "node-ready.yaml")
        text = "\n---\n".join((_STAGES / name).read_text(encoding="utf-8") for name in names)
        start_ms = round(self.system.lab.clock.real_s(self.system.lab.times.pod_start_s) * 1000)
        return text.replace("${POD_START_MS}", str(start_ms)).encode()

    def _pod_network(self) -> str:
        """Pods' addresses, different on each node: the last octet of the node's address picks its /24."""
        first = self.system.config_or_fail.pod_subnets()[0].split(".")
        return (
            f"{first[0]}.{first[1]}.{socket.inet_aton(self.system.address)[3]}.1/24"
            if len(first) == 4
            else "10.244.1.1/24"
        )

    async def _wait_ready(self, api: Api) -> None:
        system = self.system
        while True:
            with contextlib.suppress(ApiError):
                if is_ready(await api.get(f"/api/v1/nodes/{system.hostname}")):
                    break
                if system.config_or_fail.cni() == "none" and await has_network(api, system.hostname):
                    await say_ready(api, system.hostname)
            await asyncio.sleep(_POLL_S)
        self.ready = True
        system.emit("node_ready")
