"""What runs on a kubeadm host: static pods as real servers, a kubelet, and kube-vip where its manifest says so."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import yaml

from twin.hosts.kubelet import Kubelet, Wish, kwok_rights
from twin.hosts.servers import ELECTION, Servers
from twin.hosts.shell import Reply, said
from twin.hosts.units import PROGRAMS, Program
from twin.kubernetes.api import Api, ApiError
from twin.kubernetes.kubeconfig import kubeconfig
from twin.talos.etcd_client import EtcdClient, EtcdError
from twin.talos.pki import Pair, client_context, issue, write_secret
from twin.talos.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twin.hosts.host import Host

PKI = "/etc/kubernetes/pki"
ADMIN = "/etc/kubernetes/admin.conf"
KUBELET = "/etc/kubernetes/kubelet.conf"
MANIFESTS = "/etc/kubernetes/manifests"
ETCD = "/var/lib/etcd"
SETTINGS = "/var/lib/kubelet/twin.json"  # what static pods and the kubelet were set up with
UNITS = {"kubelet": "/usr/bin/kubelet", "containerd": "/usr/bin/containerd"}
PORT = 6443
_POLL_S = 0.2
_ROLE = "node-role.kubernetes.io/control-plane"


class Idle:
    """A service that does nothing that anybody here would see."""

    async def start(self) -> None:
        """At once."""

    async def stop(self) -> None:
        """At once."""

    def kill(self) -> None:
        """At once."""


class Node:
    """The kubelet's service. Without a kubelet.conf it waits for kubeadm."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.servers = Servers(host)
        self.ready = False
        self._kubelet: Kubelet | None = None
        self._vip: Relay | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def is_control_plane(self) -> bool:
        """Whether it has static pods."""
        return self.host.path(f"{MANIFESTS}/kube-apiserver.yaml").is_file()

    async def start(self) -> None:
        """Begin; what takes long goes on behind."""
        if self.host.path(KUBELET).is_file():
            self._tasks.append(self.host.lab.spawn(self._run(), f"{self.host.name} kubelet"))

    async def stop(self) -> None:
        """End in order."""
        self._end()
        await self.servers.stop()

    def kill(self) -> None:
        """End at once."""
        self._end()
        self.servers.kill()

    def _end(self) -> None:
        self.ready = False
        for task in self._tasks:
            task.cancel()
        if self._vip is not None:
            self._vip.close()
            self._vip = None
        if self._kubelet is not None:
            self._kubelet.kill()

    async def _run(self) -> None:
        if self.is_control_plane:
            await self._control_plane()
        self._tasks.append(self.host.lab.spawn(self._hold_vip(), f"{self.host.name} kube-vip"))
        given = settings(self.host)
        endpoint = urlsplit(f"https://{given['endpoint']}")
        text = yaml.safe_load(self.host.read(KUBELET))["users"][0]["user"]
        leaf = Pair(*(base64.b64decode(text[f"client-{part}-data"]) for part in ("certificate", "key")))
        wish = Wish(given["version"], given["pods"], given["labels"], tuple(given["taints"]))
        upstream = [(str(endpoint.hostname), endpoint.port or PORT)]
        self._kubelet = Kubelet(self.host, wish, ca(self.host), leaf, lambda: upstream)
        await self._kubelet.run()

    async def _control_plane(self) -> None:
        _start_etcd(self)
        while not await _votes(self.host):
            await asyncio.sleep(_POLL_S)
        _start_api(self)
        async with admin(self.host) as api:
            while not await api.ready():
                await asyncio.sleep(_POLL_S)
            self.ready = True
            _start_more(self)
            for path, body in kwok_rights():
                with contextlib.suppress(ApiError):
                    await api.create(path, body)

    async def _hold_vip(self) -> None:
        """What kube-vip does on the one that leads."""
        text = self.host.read(f"{MANIFESTS}/kube-vip.yaml")
        if not text:
            return
        variables = {v["name"]: v.get("value") for v in yaml.safe_load(text)["spec"]["containers"][0]["env"]}
        while self._vip is None:
            relay = Relay(lambda: [(one.address, PORT) for one in control_planes(self.host)])
            try:
                relay.listen(str(variables["address"]), PORT)
            except OSError:
                await asyncio.sleep(_POLL_S)
                continue
            self._vip = relay
            self.host.emit("vip_taken", address=variables["address"])


def _kubelet_program(host: Host, argv: list[str]) -> Program:
    return Node(host)


def _idle(host: Host, argv: list[str]) -> Program:
    return Idle()


PROGRAMS[UNITS["kubelet"]] = _kubelet_program
PROGRAMS[UNITS["containerd"]] = _idle


def write_settings(host: Host, cluster: dict[str, Any], registration: dict[str, Any], *, initial: str | None) -> None:
    """What the static pods' manifests and the kubelet's flags say; `initial` is None for a worker."""
    arguments = {item["name"]: item["value"] for item in registration["kubeletExtraArgs"]}
    labels = dict(text.partition("=")[::2] for text in arguments.get("node-labels", "").split(",") if text)
    taints = [f"{taint['key']}={taint.get('value', '')}:{taint['effect']}" for taint in registration["taints"]]
    data = {
        "endpoint": cluster["controlPlaneEndpoint"], "version": cluster["kubernetesVersion"],
        "pods": cluster["networking"]["podSubnet"], "services": cluster["networking"]["serviceSubnet"],
        "labels": labels, "taints": taints, "initial": initial, "node_ip": arguments["node-ip"],
    }  # fmt: skip
    host.put(SETTINGS, json.dumps(data))
    if initial is not None:
        for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"):
            host.put(f"{MANIFESTS}/{name}.yaml", f"# {name}, as the twin runs it\n", 0o600)


def settings(host: Host) -> dict[str, Any]:
    """What was set up."""
    found: dict[str, Any] = json.loads(host.read(SETTINGS))
    return found


def ca(host: Host) -> bytes:
    """The cluster's authority."""
    return host.path(f"{PKI}/ca.crt").read_bytes()


def _pair(host: Host, name: str) -> Pair:
    return Pair(host.path(f"{PKI}/{name}.crt").read_bytes(), host.path(f"{PKI}/{name}.key").read_bytes())


def issue_leaf(host: Host, authority: str, name: str, groups: list[str]) -> Pair:
    """A client's certificate under one of the host's authorities."""
    return issue(_pair(host, authority), name, groups, client=True)


def own_leaf(host: Host) -> Pair:
    """The kubelet's own, on a host that has the authority's key."""
    return issue_leaf(host, "ca", f"system:node:{host.name}", ["system:nodes"])


def admin(host: Host, url: str = "") -> Api:
    """An administrator's client; of its own API server without a URL."""
    leaf = issue_leaf(host, "ca", "kubernetes-admin", ["system:masters"])
    return Api(url or f"https://{host.address}:{PORT}", client_context(ca(host), leaf))


def etcd(host: Host) -> EtcdClient:
    """A client of its own member."""
    context = client_context(_pair(host, "etcd/ca").crt, _pair(host, "etcd/healthcheck-client"), http2=True)
    return EtcdClient(host.address, context, 3)


def control_planes(host: Host) -> Iterator[Host]:
    """Those of the lab with the same authority whose API serves."""
    for other in host.lab.hosts.values():
        found = other.units.program("kubelet")
        if isinstance(found, Node) and found.ready and other.on and ca(other) == ca(host):
            yield other


async def join_etcd(host: Host) -> str:
    """Be added as a learner; gives etcd's --initial-cluster."""
    mine = f"https://{host.address}:2380"
    for _ in range(100):
        for other in control_planes(host):
            with contextlib.suppress(EtcdError):
                async with etcd(other) as client:
                    members = await client.members()
                    if not any(mine in member.peer_urls for member in members):
                        _, members = await client.add_learner(mine)
                return ",".join(f"{m.name or host.name}={url}" for m in members for url in m.peer_urls)
        await asyncio.sleep(_POLL_S)
    raise OSError("etcd: no member took the new one")


async def _votes(host: Host) -> bool:
    try:
        async with etcd(host) as client:
            status = await client.status()
            if not status.is_learner:
                await client.members()
                return True
        for other in control_planes(host):
            async with etcd(other) as client:
                await client.promote(status.header.member_id)
            break
    except EtcdError:
        pass
    return False


def _start_etcd(node: Node) -> None:
    host, pki = node.host, node.host.path(PKI)
    client, peer = f"https://{host.address}:2379", f"https://{host.address}:2380"
    initial = settings(host)["initial"]
    host.path(ETCD).mkdir(parents=True, exist_ok=True, mode=0o700)
    node.servers.start("etcd", {
        "name": host.name, "data-dir": str(host.path(ETCD)),
        "listen-client-urls": client, "advertise-client-urls": client,
        "listen-peer-urls": peer, "initial-advertise-peer-urls": peer,
        "client-cert-auth": "true", "peer-client-cert-auth": "true",
        "trusted-ca-file": f"{pki}/etcd/ca.crt", "peer-trusted-ca-file": f"{pki}/etcd/ca.crt",
        "cert-file": _made(host, "etcd/server"), "key-file": f"{pki}/twin/etcd-server.key",
        "peer-cert-file": _made(host, "etcd/peer"), "peer-key-file": f"{pki}/twin/etcd-peer.key",
        "log-level": "error", "unsafe-no-fsync": "true",
        "initial-cluster-state": "existing" if initial else "new",
        "initial-cluster": initial or f"{host.name}={peer}",
    })  # fmt: skip


def _made(host: Host, name: str) -> str:
    """Etcd's certificates: kubeadm makes them for the name of the machine that it runs on, which is not the host."""
    leaf = issue(_pair(host, "etcd/ca"), host.name, (), [host.name, host.address, "localhost", "127.0.0.1"],
                 server=True, client=True)  # fmt: skip
    flat = name.replace("/", "-")
    host.put(f"{PKI}/twin/{flat}.crt", leaf.crt)
    host.put(f"{PKI}/twin/{flat}.key", leaf.key, 0o600)
    return str(host.path(f"{PKI}/twin/{flat}.crt"))


def _start_api(node: Node) -> None:
    host, pki = node.host, node.host.path(PKI)
    node.servers.start("kube-apiserver", {
        "advertise-address": settings(host)["node_ip"], "bind-address": host.address, "secure-port": str(PORT),
        "allow-privileged": "true", "authorization-mode": "Node,RBAC", "client-ca-file": f"{pki}/ca.crt",
        "enable-admission-plugins": "NodeRestriction", "enable-bootstrap-token-auth": "true",
        "endpoint-reconciler-type": "none", "etcd-cafile": f"{pki}/etcd/ca.crt",
        "etcd-certfile": f"{pki}/apiserver-etcd-client.crt", "etcd-keyfile": f"{pki}/apiserver-etcd-client.key",
        "etcd-servers": f"https://{host.address}:2379",
        "kubelet-client-certificate": f"{pki}/apiserver-kubelet-client.crt",
        "kubelet-client-key": f"{pki}/apiserver-kubelet-client.key",
        "proxy-client-cert-file": f"{pki}/front-proxy-client.crt",
        "proxy-client-key-file": f"{pki}/front-proxy-client.key",
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-client-ca-file": f"{pki}/front-proxy-ca.crt",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-", "requestheader-group-headers": "X-Remote-Group",
        "requestheader-username-headers": "X-Remote-User",
        "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
        "service-account-key-file": f"{pki}/sa.pub", "service-account-signing-key-file": f"{pki}/sa.key",
        "service-cluster-ip-range": settings(host)["services"], "tls-cert-file": f"{pki}/apiserver.crt",
        "tls-private-key-file": f"{pki}/apiserver.key", "shutdown-delay-duration": "0s", "profiling": "false",
    })  # fmt: skip


def _start_more(node: Node) -> None:
    host, pki = node.host, node.host.path(PKI)
    files = {}
    for name in ("kube-controller-manager", "kube-scheduler"):
        leaf = issue_leaf(host, "ca", f"system:{name}", [])
        text = kubeconfig(f"https://{host.address}:{PORT}", ca(host), leaf)
        files[name] = str(write_secret(host.path(f"/etc/kubernetes/{name.removeprefix('kube-')}.conf"), text))
    own = {"bind-address": host.address, "leader-elect": "true", "profiling": "false", **ELECTION}
    manager, scheduler = (
        {**own, "kubeconfig": file, "authentication-kubeconfig": file, "authorization-kubeconfig": file}
        for file in files.values()
    )
    node.servers.start("kube-scheduler", scheduler)
    node.servers.start("kube-controller-manager", {
        **manager, "allocate-node-cidrs": "true", "cluster-cidr": settings(host)["pods"],
        "service-cluster-ip-range": settings(host)["services"], "cluster-signing-cert-file": f"{pki}/ca.crt",
        "cluster-signing-key-file": f"{pki}/ca.key", "controllers": "*,bootstrapsigner,tokencleaner",
        "root-ca-file": f"{pki}/ca.crt", "service-account-private-key-file": f"{pki}/sa.key",
        "use-service-account-credentials": "true", "node-monitor-period": "1s", "node-monitor-grace-period": "8s",
    })  # fmt: skip


async def label(host: Host, registration: dict[str, Any]) -> None:
    """Mark the control plane, once its Node is there, as kubeadm does."""
    taints = [{"key": t["key"], "value": t.get("value", ""), "effect": t["effect"]} for t in registration["taints"]]
    body = {"metadata": {"labels": {_ROLE: ""}}, "spec": {"taints": taints}}
    async with admin(host) as api:
        for _ in range(150):
            try:
                await api.patch(f"/api/v1/nodes/{host.name}", body)
                return
            except ApiError:
                await asyncio.sleep(_POLL_S)
    raise OSError(f"{host.name}: its Node did not come")


async def etcdctl(host: Host, words: list[str]) -> Reply:
    """`member list`, `endpoint health --cluster` and `member remove`, in etcdctl's JSON; `snapshot save FILE`."""
    try:
        async with etcd(host) as client:
            if words[:2] == ["snapshot", "save"]:
                return await _saved(host, client, words[2])
            members = await client.members()
            if words[:2] == ["member", "remove"]:
                await client.remove(int(words[2], 16))
                host.emit("etcd_member_removed", member=words[2])
                return said(f"Member {words[2]} removed from cluster\n")
    except EtcdError as error:
        return said(f"Error: {error}\n", 1)
    if words[:2] == ["member", "list"]:
        listed = [_listed(member) for member in members]
        return said(json.dumps({"header": {}, "members": listed}))
    healthy = [{"endpoint": url, "health": await _answers(host, url)} for m in members for url in m.client_urls]
    return Reply(0 if all(item["health"] for item in healthy) else 1, json.dumps(healthy).encode())


async def _saved(host: Host, client: EtcdClient, path: str) -> Reply:
    """A snapshot into the one folder that the pod shares with its host; elsewhere it would be the pod's alone."""
    if not path.startswith(f"{ETCD}/"):
        return said(f"Error: could not open {path}.part (open {path}.part: read-only file system)\n", 1)
    host.put(path, b"".join([part async for part in client.snapshot()]), 0o600)
    return said(f"Snapshot saved at {path}\n")


def _listed(member: Any) -> dict[str, Any]:
    found = {"ID": member.id, "name": member.name, "peerURLs": list(member.peer_urls)}
    found |= {"clientURLs": list(member.client_urls)} if member.client_urls else {}
    return found | ({"isLearner": True} if member.is_learner else {})


async def _answers(host: Host, url: str) -> bool:
    context = client_context(_pair(host, "etcd/ca").crt, _pair(host, "etcd/healthcheck-client"), http2=True)
    try:
        async with EtcdClient(str(urlsplit(url).hostname), context, 2) as client:
            await client.status()
    except EtcdError:
        return False
    return True


def running(host: Host) -> list[str]:
    """The static pods that run."""
    found = host.units.program("kubelet")
    return list(found.servers.processes) if isinstance(found, Node) else []


def restart(host: Host, name: str) -> None:
    """End one; it is started again."""
    found = host.units.program("kubelet")
    if isinstance(found, Node) and name in found.servers.processes:
        process = found.servers.processes[name]
        process.kill()
        process.start()
