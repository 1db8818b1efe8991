"""The static pods of a control plane: real kube-apiserver, controller-manager and scheduler (DESIGN 5)."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from twin.kubernetes import manifests, staticpods
from twin.kubernetes.api import Api, ApiError
from twin.kubernetes.kubeconfig import kubeconfig
from twin.kubernetes.players import play
from twin.kubernetes.players.door import Door
from twin.talos.pki import Pair, client_context, decode, issue, public_pem, write_secret
from twin.talos.process import Process, program

if TYPE_CHECKING:
    from twin.talos.os import Os

PORT = 6443
_POLL_S = 0.2


class ControlPlane:
    """Runs once the node's etcd does; started again when a change of the config changes the servers' flags."""

    def __init__(self, system: Os) -> None:
        self.system = system
        self.ready = False
        self._folder = system.run_folder("kubernetes")
        self._processes: dict[str, Process] = {}
        self._begun: dict[str, str] = {}  # what each server was started with
        self._turn = asyncio.Lock()
        self._pods = asyncio.Lock()
        self._door = Door(system, self.admin)

    @property
    def began(self) -> bool:
        """Whether all servers were started, ready or not."""
        return "kube-scheduler" in self._begun

    async def run(self) -> None:
        """Start the servers in order and apply what Talos applies; ends when the API is ready."""
        await self._door.open()
        await self._serve("kube-apiserver", self._api_server_flags())
        async with self.admin() as api:
            while not await api.ready():
                await asyncio.sleep(_POLL_S)
            self.ready = True
            self.system.emit("api_ready")
            await self._serve("kube-controller-manager", self._controller_manager_flags())
            await self._serve("kube-scheduler", self._scheduler_flags())
            await self._apply(api)
            play.start(self.system)

    async def reconfigure(self) -> None:
        """Take over a changed config: only servers whose flags or certificates change are started again."""
        wanted = {
            "kube-apiserver": self._api_server_flags(),
            "kube-controller-manager": self._controller_manager_flags(),
            "kube-scheduler": self._scheduler_flags(),
        }
        changed = {name: flags for name, flags in wanted.items() if self._made_of(name, flags) != self._begun.get(name)}
        if any(self._processes[name].argv[1:] == flags for name, flags in changed.items()):
            # New keys or images: the config's answer does not wait for the servers, which stop and start behind it.
            self.ready = self.ready and "kube-apiserver" not in changed
            self.system.job(self._restart(changed), "static pods")
        else:
            await self._restart(changed)

    async def _restart(self, wanted: dict[str, list[str]]) -> None:
        async with self._turn:
            for name, flags in wanted.items():
                await self._processes[name].stop()
                await self._serve(name, flags)
            async with self.admin() as api:
                while not self.ready and not await api.ready():
                    await asyncio.sleep(_POLL_S)
                self.ready = True
                await self._apply(api)

    def _made_of(self, name: str, flags: list[str]) -> str:
        """A digest of a server's image, its flags, and the files of ours that they name: keys, kubeconfigs, ..."""
        image = staticpods.image(self.system.config_or_fail, name)
        digest = hashlib.sha256("\0".join([image, *flags]).encode())
        for flag in flags:
            path = Path(flag.partition("=")[2])
            if path.parent == self._folder and path.is_file():
                digest.update(path.read_bytes())
        return digest.hexdigest()

    def kill(self) -> None:
        """The node lost its power."""
        self.ready = False
        self._door.close()
        for process in self._processes.values():
            process.kill()

    async def stop(self) -> None:
        """The node shuts down in order: leases are given back."""
        self.ready = False
        self._door.close()
        await asyncio.gather(*(process.stop(2) for process in self._processes.values()))

    def admin(self) -> Api:
        """This node's own API server, as Talos' system:masters client."""
        trusted = self.system.config_or_fail.accepted("cluster")
        return Api(f"https://{self.system.address}:{PORT}", client_context(trusted, admin_leaf(self.system)))

    async def _serve(self, name: str, flags: list[str]) -> None:
        process = Process([program(self.system.lab.tools, name), *flags], self.system.logs / f"{name}.log", nice=5)
        self._processes[name] = process
        self._begun[name] = self._made_of(name, flags)
        self.system.serve(process)

    async def _apply(self, api: Api) -> None:
        config = self.system.config
        if config is None:
            return
        for path, body in manifests.bootstrap(config):
            for _ in range(50):
                try:
                    await api.create(path, body)
                    break
                except ApiError:
                    await asyncio.sleep(_POLL_S)
        self.system.job(self._show_pods(), "mirror pods")

    async def _show_pods(self) -> None:
        """What runs here as the API shows it; whoever comes last has the newest config."""
        async with self._pods, self.admin() as api:
            system = self.system
            await staticpods.publish(api, system.config_or_fail, system.hostname, system.machine.boot_id)

    def _api_server_flags(self) -> list[str]:
        system, folder = self.system, self._folder
        ca, front = system.authority("cluster", "ca"), system.authority("cluster", "aggregatorCA")
        server = system.leaf("apiserver", ca, "kube-apiserver", hosts=self._hosts(), server=True)
        self._put("apiserver", server)
        self._put("kubelet-client", system.leaf("kubelet-client", ca, "apiserver-kubelet-client", ["system:masters"]))
        self._put("front-proxy", system.leaf("front-proxy", front, "front-proxy-client"))
        self._put("etcd-client", system.etcd_leaf)
        (folder / "ca.crt").write_bytes(system.config_or_fail.accepted("cluster"))
        (folder / "aggregator-ca.crt").write_bytes(front.crt)
        (folder / "etcd-ca.crt").write_bytes(system.authority("cluster", "etcd", "ca").crt)
        self._service_account()
        flags = {
            "advertise-address": system.address, "bind-address": system.address, "secure-port": str(PORT),
            "allow-privileged": "true", "api-audiences": system.config_or_fail.endpoint,
            "service-account-issuer": system.config_or_fail.endpoint,
            "authorization-mode": "Node,RBAC", "client-ca-file": str(folder / "ca.crt"),
            "enable-admission-plugins": "NodeRestriction", "enable-bootstrap-token-auth": "true",
            "egress-selector-config-file": str(self._door.config(folder / "egress.yaml")),
            "encryption-provider-config": str(self._encryption()), "endpoint-reconciler-type": "none",
            "etcd-cafile": str(folder / "etcd-ca.crt"), "etcd-certfile": str(folder / "etcd-client.crt"),
            "etcd-keyfile": str(folder / "etcd-client.key"), "etcd-servers": f"https://{system.address}:2379",
            "kubelet-client-certificate": str(folder / "kubelet-client.crt"),
            "kubelet-client-key": str(folder / "kubelet-client.key"), "profiling": "false",
            "proxy-client-cert-file": str(folder / "front-proxy.crt"),
            "proxy-client-key-file": str(folder / "front-proxy.key"),
            "requestheader-allowed-names": "front-proxy-client",
            "requestheader-client-ca-file": str(folder / "aggregator-ca.crt"),
            "requestheader-extra-headers-prefix": "X-Remote-Extra-", "requestheader-group-headers": "X-Remote-Group",
            "requestheader-username-headers": "X-Remote-User",
            "service-account-key-file": str(folder / "sa.pub"),
            "service-account-signing-key-file": str(folder / "sa.key"),
            "service-cluster-ip-range": ",".join(system.config_or_fail.service_subnets()),
            "tls-cert-file": str(folder / "apiserver.crt"), "tls-private-key-file": str(folder / "apiserver.key"),
            "tls-min-version": "VersionTLS12", "shutdown-delay-duration": "0s",
        }  # fmt: skip
        return self._with_extra("apiServer", flags)

    def _controller_manager_flags(self) -> list[str]:
        system, folder = self.system, self._folder
        kubeconfig = self._kubeconfig("system:kube-controller-manager", "controller-manager")
        # Talos gives it the signing authority alone: pods don't hear of an accepted one.
        signing = folder / "signing-ca.crt"
        signing.write_bytes(system.authority("cluster", "ca").crt)
        grace_s = max(8, system.lab.clock.real_s(50))
        flags = {
            "bind-address": system.address, "kubeconfig": kubeconfig,
            "authentication-kubeconfig": kubeconfig, "authorization-kubeconfig": kubeconfig,
            "allocate-node-cidrs": "true", "cluster-cidr": ",".join(system.config_or_fail.pod_subnets()),
            "service-cluster-ip-range": ",".join(system.config_or_fail.service_subnets()),
            "cluster-signing-cert-file": str(signing),
            "cluster-signing-key-file": str(write_secret(folder / "ca.key", self._ca_key())),
            "controllers": "*,tokencleaner", "leader-elect": "true", "profiling": "false",
            "root-ca-file": str(signing), "service-account-private-key-file": str(folder / "sa.key"),
            "use-service-account-credentials": "true", **self._election(),
            "node-monitor-period": "1s", "node-monitor-grace-period": f"{grace_s:.0f}s",
        }  # fmt: skip
        return self._with_extra("controllerManager", flags)

    def _scheduler_flags(self) -> list[str]:
        kubeconfig = self._kubeconfig("system:kube-scheduler", "scheduler")
        flags = {
            "bind-address": self.system.address, "kubeconfig": kubeconfig, "authentication-kubeconfig": kubeconfig,
            "authorization-kubeconfig": kubeconfig, "leader-elect": "true", "profiling": "false", **self._election(),
        }  # fmt: skip
        return self._with_extra("scheduler", flags)

    def _election(self) -> dict[str, str]:
        """Leases as short as real processes on a busy machine can keep them."""
        return {
            "leader-elect-lease-duration": "8s",
            "leader-elect-renew-deadline": "6s",
            "leader-elect-retry-period": "1s",
        }

    def _with_extra(self, section: str, flags: dict[str, str]) -> list[str]:
        extra = dict(self.system.at("cluster", section, "extraArgs", default={}))
        # The servers of several nodes share one host here: a wildcard address would be taken by the first of them.
        if extra.get("bind-address") in ("0.0.0.0", "::"):  # noqa: S104
            del extra["bind-address"]
        return [f"--{key}={value}" for key, value in {**flags, **extra}.items()]

    def _hosts(self) -> list[str]:
        config = self.system.config_or_fail
        domain = str(self.system.at("cluster", "network", "dnsDomain", default="cluster.local"))
        first = [str(ipaddress.ip_network(subnet, strict=False)[1]) for subnet in config.service_subnets()]
        names = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            f"kubernetes.default.svc.{domain}",
            "localhost",
        ]
        sans = [str(san) for san in self.system.at("cluster", "apiServer", "certSANs", default=[])]
        hosts = [*names, self.system.hostname, "127.0.0.1", self.system.address, config.endpoint_host, *first, *sans]
        return list(dict.fromkeys(host for host in hosts if host))

    def _ca_key(self) -> bytes:
        return self.system.authority("cluster", "ca").key

    def _service_account(self) -> None:
        key = decode(self.system.at("cluster", "serviceAccount", "key"))
        write_secret(self._folder / "sa.key", key)
        (self._folder / "sa.pub").write_bytes(public_pem(key))

    def _encryption(self) -> Path:
        secret = self.system.at("cluster", "secretboxEncryptionSecret")
        aes = self.system.at("cluster", "aescbcEncryptionSecret")
        named = [("secretbox", secret)] * bool(secret) + [("aescbc", aes)] * bool(aes)
        providers = [{name: {"keys": [{"name": f"key{n}", "secret": key}]}} for n, (name, key) in enumerate(named, 1)]
        document = {
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "EncryptionConfiguration",
            "resources": [{"resources": ["secrets"], "providers": [*providers, {"identity": {}}]}],
        }
        return write_secret(self._folder / "encryption.yaml", yaml.safe_dump(document).encode())

    def _kubeconfig(self, user: str, name: str) -> str:
        ca = self.system.authority("cluster", "ca")
        leaf = self.system.leaf(name, ca, user)
        trusted = self.system.config_or_fail.accepted("cluster")
        text = kubeconfig(f"https://{self.system.address}:{PORT}", trusted, leaf)
        return str(write_secret(self._folder / f"{name}.kubeconfig", text))

    def _put(self, name: str, leaf: Pair) -> None:
        (self._folder / f"{name}.crt").write_bytes(leaf.crt)
        write_secret(self._folder / f"{name}.key", leaf.key)


def admin_leaf(system: Os) -> Pair:
    """The administrator's certificate that a control plane makes itself for its own controllers."""
    return system.leaf("admin", system.authority("cluster", "ca"), "talos:admin", ["system:masters"])


def admin_kubeconfig(system: Os) -> bytes:
    """What the Kubeconfig call gives: a new client certificate each time."""
    config = system.config_or_fail
    ca = config.authority("cluster", "ca")
    leaf = issue(ca, "admin", ["system:masters"], client=True)
    name = str(config.at("cluster", "clusterName", default="default"))
    return kubeconfig(config.endpoint, config.accepted("cluster"), leaf, name)
