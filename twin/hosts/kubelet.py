"""A host's kubelet: its Node is made as a kubelet makes it, with the node's own certificate; its pods are kwok's."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from twin.kubernetes.api import Api, ApiError
from twin.kubernetes.kubeconfig import kubeconfig
from twin.kubernetes.manifests import kwok
from twin.kubernetes.node import is_ready
from twin.talos.pki import Pair, client_context, write_secret
from twin.talos.process import Process, program
from twin.talos.relay import Relay, Upstreams

if TYPE_CHECKING:
    from twin.hosts.lab import Lab

_POLL_S = 0.2
_STAGES = Path(__file__).parents[1] / "kubernetes" / "stages"
_NO_NETWORK = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady"


@dataclass(frozen=True)
class Wish:
    """What a kubelet is started with."""

    version: str
    pods: str  # the cluster's pod network
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[str, ...] = ()  # key=value:Effect
    network: bool = True  # whether something gives pods their network, without which no node is Ready
    relay_port: int = 6444
    server: str = ""  # URL of the API, for one that has no load balancer of its own in between
    system: str = "Debian GNU/Linux 12 (bookworm)"
    processor: str = "arm64"


class Machine(Protocol):
    """What a kubelet runs on."""

    lab: Lab
    name: str
    address: str
    boot_id: str
    logs: Path

    def emit(self, kind: str, **data: object) -> None:
        """Note in the lab's journal what happened here."""


class Kubelet:
    """Runs until it is killed."""

    def __init__(self, host: Machine, wish: Wish, ca: bytes, leaf: Pair, servers: Upstreams) -> None:
        self.host, self.wish, self._ca, self._leaf = host, wish, ca, leaf
        self._relay = Relay(servers)
        self._kwok: Process | None = None
        self._said = ""
        self.ready = False

    async def run(self) -> None:
        """Register the Node and have its pods played; ends when the Node is Ready, or at once without a network."""
        if not self.wish.server:
            self._relay.listen(self.host.address, self.wish.relay_port)
        async with self.api() as api:
            await self._register(api)
            self._start()
            await self._until_ready(api)
        self.host.emit("node_ready")

    async def _until_ready(self, api: Api) -> None:
        while self.wish.network and not self.ready:
            with contextlib.suppress(ApiError):
                self.ready = is_ready(await api.get(f"/api/v1/nodes/{self.host.name}"))
            await asyncio.sleep(_POLL_S)

    def api(self) -> Api:
        """The API as this node, through the local load balancer where there is one."""
        url, name = self._door
        return Api(url, client_context(self._ca, self._leaf), server_name=name or None)

    @property
    def _door(self) -> tuple[str, str]:
        """The API's URL, and the name that its certificate must have, where that is another one."""
        if self.wish.server:
            return self.wish.server, ""
        return f"https://{self.host.address}:{self.wish.relay_port}", "localhost"

    def kill(self) -> None:
        """End it."""
        self.ready = False
        self._relay.close()
        if self._kwok is not None:
            self._kwok.kill()

    async def _register(self, api: Api) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.host.name, "labels": self._labels()},
            "spec": {"taints": [_taint(text) for text in self.wish.taints]},
        }
        path = f"/api/v1/nodes/{self.host.name}"
        while True:
            try:
                known = await api.create("/api/v1/nodes", body) or await api.get(path)
                await api.patch(f"{path}/status", {"status": self._status(known)}, "strategic-merge-patch")
                return
            except ApiError as error:
                self._complain(error)
                await asyncio.sleep(_POLL_S)

    def _complain(self, error: ApiError) -> None:
        """Say once what the API refuses."""
        if error.status in (401, 403, 422) and str(error) != self._said:
            self._said = str(error)
            self.host.emit("node_refused", said=self._said)

    def _labels(self) -> dict[str, str]:
        own = {"hostname": self.host.name, "os": "linux", "arch": self.wish.processor}
        return {**{f"kubernetes.io/{key}": value for key, value in own.items()}, **self.wish.labels}

    def _status(self, known: dict[str, Any]) -> dict[str, Any]:
        resources = {"cpu": "4", "memory": "8Gi", "pods": "110", "ephemeral-storage": "100Gi"}
        info = {
            "machineID": self.host.name, "systemUUID": self.host.name, "bootID": self.host.boot_id,
            "kernelVersion": "6.12.25", "osImage": self.wish.system,
            "containerRuntimeVersion": "containerd://2.1.4", "kubeletVersion": self.wish.version,
            "kubeProxyVersion": self.wish.version, "operatingSystem": "linux", "architecture": self.wish.processor,
        }  # fmt: skip
        addresses = [{"type": "InternalIP", "address": self.host.address},
                     {"type": "Hostname", "address": self.host.name}]  # fmt: skip
        condition = {"type": "Ready", "status": "False", "reason": "KubeletNotReady", "message": _NO_NETWORK}
        same_boot = known.get("status", {}).get("nodeInfo", {}).get("bootID") == self.host.boot_id
        return {"addresses": addresses, "capacity": resources, "allocatable": resources, "nodeInfo": info,
                **({} if same_boot else {"conditions": [condition]})}  # fmt: skip

    def _start(self) -> None:
        folder = self.host.logs.parent / "run"
        folder.mkdir(exist_ok=True)
        server, name = self._door
        config = write_secret(
            folder / "kubelet.kubeconfig", kubeconfig(server, self._ca, self._leaf, tls_server_name=name)
        )
        stages = write_secret(folder / "stages.yaml", self._stages())
        last = socket.inet_aton(self.host.address)[3]
        first = self.wish.pods.split(".")
        argv = [
            program(self.host.lab.tools, "kwok"), f"--kubeconfig={config}", f"--config={stages}",
            f"--manage-single-node={self.host.name}", f"--node-ip={self.host.address}",
            f"--node-name={self.host.name}", "--node-lease-duration-seconds=8", "--enable-crds=",
            f"--cidr={first[0]}.{first[1]}.{last}.1/24", "--v=ERROR",
        ]  # fmt: skip
        env = {"HOME": str(folder), "GOMAXPROCS": "1", "GOGC": "50"}
        self._kwok = Process(argv, self.host.logs / "kubelet.log", env=env)
        self._kwok.start()

    def _stages(self) -> bytes:
        names = [*(["node-ready.yaml"] if self.wish.network else []), "node-heartbeat.yaml", "pod.yaml"]
        text = "\n---\n".join((_STAGES / name).read_text(encoding="utf-8") for name in names)
        return text.replace("${POD_START_MS}", str(round(self.host.lab.spec.pod_start_s * 1000))).encode()


def _taint(text: str) -> dict[str, str]:
    named, _, effect = text.rpartition(":")
    key, _, value = named.partition("=")
    return {"key": key, "value": value, "effect": effect}


def kwok_rights() -> list[tuple[str, dict[str, Any]]]:
    """Path and body of what kwok needs besides a kubelet's rights."""
    return list(kwok())
