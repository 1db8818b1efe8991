"""The servers behind a tenant's pods: a real etcd for a DataStore, a real API server with its controllers for a tenant.

They run on the node that the pod is on, and end with that node's boot. Of several pods one has real servers behind it:
the others would only say the same again.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from twin.kubernetes.api import Api
from twin.kubernetes.kubeconfig import kubeconfig
from twin.talos.pki import Pair, client_context, issue, public_pem, write_secret
from twin.talos.process import Process, program

if TYPE_CHECKING:
    from twin.lab import Lab
    from twin.talos.os import Os

_ELECTION = {
    "leader-elect": "true",
    "leader-elect-lease-duration": "8s",
    "leader-elect-renew-deadline": "6s",
    "leader-elect-retry-period": "1s",
}


class Held:
    """Server programs on a node: they end when they are told to, or with the node's boot; `ended` hears of it."""

    def __init__(self, system: Os, processes: Sequence[Process], ended: Callable[[], None]) -> None:
        self.system = system
        self._ended = ended
        self.alive = True
        self._processes = processes
        self._over = asyncio.Event()
        try:
            for process in processes:
                system.serve(process)
        except asyncio.CancelledError:  # raised, not awaited: the node has lost its power just now
            self.end()
            return
        system.job(self._hold(), "tenant's servers")

    def end(self) -> None:
        """Kill them."""
        if not self.alive:
            return
        self.alive = False
        self._over.set()
        self._ended()
        for process in self._processes:
            process.kill()

    async def _hold(self) -> None:
        try:
            await self._over.wait()
        finally:
            self.end()


@dataclass(frozen=True)
class Store:
    """What a DataStore's etcd is made of: its CA, and the folder of its files, which the pods' volumes stand for."""

    lab: Lab
    uid: str
    ca: Pair

    @property
    def folder(self) -> Path:
        """Its files, keys among them."""
        found = self.lab.folder / "tenants" / self.uid
        found.mkdir(parents=True, mode=0o700, exist_ok=True)
        return found


class Etcd:
    """The etcd of a DataStore, on one node."""

    def __init__(self, store: Store, system: Os, ended: Callable[[], None]) -> None:
        self.store = store
        client, peer = _free_port(system.address), _free_port(system.address)
        self.url = f"https://{system.address}:{client}"
        self._peers = f"http://{system.address}:{peer}"
        server = issue(store.ca, "kamaji-etcd", hosts=[system.address], server=True, client=True)
        put(store.folder, "server", server)
        put(store.folder, "root", issue(store.ca, "root", client=True))
        (store.folder / "ca.crt").write_bytes(store.ca.crt)
        self.held = Held(system, [self._process(system)], ended)

    def _process(self, system: Os) -> Process:
        folder = self.store.folder
        flags = {
            "name": "kamaji-etcd-0", "data-dir": str(folder / "data"), "log-level": "error",
            "listen-client-urls": self.url, "advertise-client-urls": self.url,
            "listen-peer-urls": self._peers, "initial-advertise-peer-urls": self._peers,
            "initial-cluster": f"kamaji-etcd-0={self._peers}", "force-new-cluster": _has_data(folder / "data"),
            "client-cert-auth": "true", "trusted-ca-file": str(folder / "ca.crt"),
            "cert-file": str(folder / "server.crt"), "key-file": str(folder / "server.key"),
            "unsafe-no-fsync": "true",
        }  # fmt: skip
        argv = [program(self.store.lab.tools, "etcd"), *_flags(flags)]
        return Process(argv, system.logs / f"kamaji-etcd-{self.store.uid[:8]}.log", nice=5)

    async def forget(self, prefix: str) -> bool:
        """Delete every key below a prefix. Says whether etcd did."""
        folder = self.store.folder
        child = await asyncio.create_subprocess_exec(
            program(self.store.lab.tools, "etcdctl"), f"--endpoints={self.url}", f"--cacert={folder / 'ca.crt'}",
            f"--cert={folder / 'root.crt'}", f"--key={folder / 'root.key'}", "--command-timeout=5s",
            "del", "--prefix", prefix,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        return await child.wait() == 0

    def drop(self) -> None:
        """End it, and forget all that it kept."""
        self.held.end()
        shutil.rmtree(self.store.folder, ignore_errors=True)


@dataclass(frozen=True)
class Plane:
    """What a tenant's servers are started with; another one starts them anew."""

    name: str
    address: str
    port: int
    version: str
    names: tuple[str, ...]
    pods: str
    services: str
    etcd: str
    prefix: str
    user: str


@dataclass(frozen=True)
class Keys:
    """A tenant's authorities, and the key that its service accounts' tokens are signed with."""

    ca: Pair
    front: Pair
    accounts: bytes


class Servers:
    """A tenant's API server, controller manager and scheduler, on one node."""

    def __init__(self, plane: Plane, keys: Keys, store: Store, system: Os, ended: Callable[[], None]) -> None:
        self.plane = plane
        self.prepared = False
        self._keys = keys
        self._store = store
        self._folder = system.run_folder(f"tenant-{plane.name}")
        self._put()
        self.held = Held(system, [self._process(system, name) for name in _PROGRAMS], ended)

    def admin(self) -> Api:
        """Its API server, as its administrator."""
        leaf = issue(self._keys.ca, "kubernetes-admin", ["system:masters"], client=True)
        return Api(f"https://{self.plane.address}:{self.plane.port}", client_context(self._keys.ca.crt, leaf))

    def _process(self, system: Os, name: str) -> Process:
        flags = {
            "kube-apiserver": self._api_server,
            "kube-controller-manager": self._controller_manager,
            "kube-scheduler": self._scheduler,
        }[name]()
        argv = [program(self._store.lab.tools, name), *_flags(flags)]
        return Process(argv, system.logs / f"tenant-{self.plane.name}-{name}.log", nice=5)

    def _put(self) -> None:
        """Every file that the servers read."""
        keys, folder, plane = self._keys, self._folder, self.plane
        server = issue(keys.ca, "kube-apiserver", hosts=list(plane.names), server=True, client=True)
        put(folder, "apiserver", server)
        put(folder, "front-proxy", issue(keys.front, "front-proxy-client", client=True))
        put(folder, "etcd", issue(self._store.ca, plane.user, client=True))
        put(folder, "ca", keys.ca)
        kubelet = issue(keys.ca, "kube-apiserver-kubelet-client", ["system:masters"], client=True)
        put(folder, "kubelet", kubelet)
        (folder / "front-ca.crt").write_bytes(keys.front.crt)
        (folder / "etcd-ca.crt").write_bytes(self._store.ca.crt)
        write_secret(folder / "sa.key", keys.accounts)
        (folder / "sa.pub").write_bytes(public_pem(keys.accounts))
        for user in ("controller-manager", "scheduler"):
            text = self._kubeconfig(issue(keys.ca, f"system:kube-{user}", client=True))
            write_secret(folder / f"{user}.kubeconfig", text)

    def _kubeconfig(self, leaf: Pair) -> bytes:
        return kubeconfig(f"https://{self.plane.address}:{self.plane.port}", self._keys.ca.crt, leaf)

    def _api_server(self) -> dict[str, str]:
        plane, folder = self.plane, self._folder
        return {
            "advertise-address": plane.address, "bind-address": plane.address, "secure-port": str(plane.port),
            "allow-privileged": "true", "authorization-mode": "Node,RBAC", "client-ca-file": str(folder / "ca.crt"),
            "enable-admission-plugins": "NodeRestriction", "enable-bootstrap-token-auth": "true",
            "endpoint-reconciler-type": "none", "etcd-servers": plane.etcd, "etcd-prefix": plane.prefix,
            "etcd-cafile": str(folder / "etcd-ca.crt"), "etcd-certfile": str(folder / "etcd.crt"),
            "etcd-keyfile": str(folder / "etcd.key"), "profiling": "false",
            "kubelet-client-certificate": str(folder / "kubelet.crt"),
            "kubelet-client-key": str(folder / "kubelet.key"),
            "proxy-client-cert-file": str(folder / "front-proxy.crt"),
            "proxy-client-key-file": str(folder / "front-proxy.key"),
            "requestheader-allowed-names": "front-proxy-client",
            "requestheader-client-ca-file": str(folder / "front-ca.crt"),
            "requestheader-extra-headers-prefix": "X-Remote-Extra-", "requestheader-group-headers": "X-Remote-Group",
            "requestheader-username-headers": "X-Remote-User",
            "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
            "service-account-key-file": str(folder / "sa.pub"),
            "service-account-signing-key-file": str(folder / "sa.key"), "service-cluster-ip-range": plane.services,
            "tls-cert-file": str(folder / "apiserver.crt"), "tls-private-key-file": str(folder / "apiserver.key"),
            "shutdown-delay-duration": "0s",
        }  # fmt: skip

    def _controller_manager(self) -> dict[str, str]:
        plane, folder = self.plane, self._folder
        own = str(folder / "controller-manager.kubeconfig")
        return {
            "bind-address": plane.address, "kubeconfig": own, "authentication-kubeconfig": own,
            "authorization-kubeconfig": own, "allocate-node-cidrs": "true", "cluster-cidr": plane.pods,
            "service-cluster-ip-range": plane.services, "cluster-signing-cert-file": str(folder / "ca.crt"),
            "cluster-signing-key-file": str(folder / "ca.key"), "controllers": "*,bootstrapsigner,tokencleaner",
            "profiling": "false", "root-ca-file": str(folder / "ca.crt"),
            "service-account-private-key-file": str(folder / "sa.key"), "use-service-account-credentials": "true",
            **_ELECTION,
        }  # fmt: skip

    def _scheduler(self) -> dict[str, str]:
        own = str(self._folder / "scheduler.kubeconfig")
        return {
            "bind-address": self.plane.address, "kubeconfig": own, "authentication-kubeconfig": own,
            "authorization-kubeconfig": own, "profiling": "false", **_ELECTION,
        }  # fmt: skip


_PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")


def put(folder: Path, name: str, pair: Pair) -> None:
    """Write a certificate and its key."""
    (folder / f"{name}.crt").write_bytes(pair.crt)
    write_secret(folder / f"{name}.key", pair.key)


def _flags(flags: dict[str, str]) -> list[str]:
    return [f"--{key}={value}" for key, value in flags.items()]


def _has_data(folder: Path) -> str:
    """Etcd remembers its member's address, and another node has another one."""
    return str((folder / "member").is_dir()).lower()


def _free_port(address: str) -> int:
    with contextlib.closing(socket.create_server((address, 0))) as taken:
        return int(taken.getsockname()[1])
