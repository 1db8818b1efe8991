"""`k3s server`: its authorities and tokens are made here, its etcd and Kubernetes servers are real ones."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from twin.hosts import k3s_agent, k3s_bootstrap
from twin.hosts.k3s_manifests import applied, dropped, vip
from twin.hosts.k3s_pki import Authorities
from twin.hosts.kubelet import Kubelet, kwok_rights
from twin.hosts.servers import ELECTION, Servers
from twin.kubernetes.api import Api, ApiError
from twin.kubernetes.kubeconfig import kubeconfig
from twin.talos.etcd_client import EtcdClient, EtcdError
from twin.talos.pki import client_context, write_secret
from twin.talos.relay import Relay

if TYPE_CHECKING:
    from twin.hosts.host import Host

PORT = 6443
DATA = "/var/lib/rancher/k3s/server"
_POLL_S = 0.2
_REMOVE, _REMOVED = "etcd.k3s.cattle.io/remove", "etcd.k3s.cattle.io/removed-node-name"
_MEMBER, _ADDRESS = "etcd.k3s.cattle.io/node-name", "etcd.k3s.cattle.io/node-address"


class Server:
    """One server: the first, or one that joins."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.config: dict[str, Any] = k3s_agent.config(host)
        self.tls = Authorities(host.path(f"{DATA}/tls"))
        self.ready = False
        self.password = ""
        self.servers = Servers(host)
        self._kubelet: Kubelet | None = None
        self._db = host.path(f"{DATA}/db")
        self._vip: Relay | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def url(self) -> str:
        """Its own API."""
        return f"https://{self.host.address}:{PORT}"

    @property
    def names(self) -> list[str]:
        """What else its certificate is good for."""
        return [str(name) for name in self.config.get("tls-san", [])]

    @property
    def uses_etcd(self) -> bool:
        """Whether its data is etcd's. With SQLite one real etcd without peers plays kine here."""
        return bool(self.config.get("cluster-init") or self.config.get("server")) or self._member.exists()

    @property
    def etcd_data(self) -> Path:
        """Where it is; SQLite's has its own place, and becomes etcd's at a start that asks for etcd."""
        return self._db / ("etcd" if self.uses_etcd else "state.db")

    @property
    def member(self) -> str:
        """Its name in etcd."""
        return self._member.read_text() if self._member.exists() else "kine"

    @property
    def _member(self) -> Path:
        return self._db / "member-name"

    def admin(self) -> Api:
        """Its own API, as an administrator."""
        return Api(self.url, self._context())

    async def start(self) -> None:
        """The whole of it, until its node is Ready."""
        initial = await self._bootstrap()
        self._write_token()
        await self.run_etcd(initial)
        await k3s_bootstrap.store(self)
        self.host.forget(f"{DATA}/db/reset-flag")
        self._serve()
        async with self.admin() as api:
            while not await api.ready():
                await asyncio.sleep(_POLL_S)
            self._more()
            for path, body in [*kwok_rights(), *dropped(self.host)]:
                await applied(api, path, body)
        self.ready = True
        self._write_kubeconfig()
        self._announce()
        self._tasks.append(self.host.lab.spawn(self._watch(), f"{self.host.name} controllers"))
        await self._run_kubelet()

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

    async def _bootstrap(self) -> str | None:
        """The authorities: kept, made, or those of the server that it joins; and etcd's members, where it joins."""
        given = k3s_agent.token(self.host, self.config)
        self.password = given.rpartition(":")[2] if given.startswith("K10") else given
        url = urlsplit(str(self.config.get("server", "")))
        if self.tls.there:
            known = self.host.read(f"{DATA}/token").strip().rpartition(":")[2]
            if self.password and known and known != self.password:
                raise OSError("bootstrap data already found and encrypted with different token")
            self.password = known or self.password
            begun = not url.hostname or (self.etcd_data / "member").exists()
            return None if begun else await self._join(given, str(url.hostname), url.port or PORT)
        if url.hostname:
            return await self._join(given, url.hostname, url.port or PORT)
        if given.startswith("K10"):
            raise OSError("failed to normalize server token: the first server takes the short form only")
        self.password = self.password or secrets.token_hex(16)
        self.tls.make()
        return None

    async def _join(self, given: str, address: str, port: int) -> str:
        while (peer := await k3s_agent.reached(self.host, address, port)) is None:
            self.host.put("/var/log/k3s.log", f"waiting for https://{address}:{port}\n")
            await asyncio.sleep(_POLL_S)
        if given.startswith("K10") and given[3:].partition("::")[0] != peer.tls.digest:
            raise OSError("token CA hash does not match the Cluster CA certificate hash")
        if self.password != peer.password:
            raise OSError("failed to get CA certs: 401 Unauthorized")
        if not peer.uses_etcd:
            raise OSError("ETCD join failed: the server's datastore is SQLite")
        if self.tls.there and self.tls.digest != peer.tls.digest:
            raise OSError("server-ca.crt newer than datastore and could cause a cluster outage")
        await k3s_agent.admitted(self.host, peer)
        self.tls.copy(peer.tls)
        self.name_member()
        while True:
            try:
                async with peer.etcd() as client:
                    members = await client.members()
                    if not any(self.peer_url in member.peer_urls for member in members):
                        _, members = await client.add_learner(self.peer_url)
                return ",".join(f"{m.name or self.member}={url}" for m in members for url in m.peer_urls)
            except EtcdError:
                await asyncio.sleep(_POLL_S)

    @property
    def peer_url(self) -> str:
        """Where other members reach its etcd."""
        return f"https://{self.host.address}:2380"

    def etcd(self, timeout_s: float = 3) -> EtcdClient:
        """A client of its own member."""
        leaf = self.tls.leaf("etcd/server-ca", "etcd-client")
        context = client_context(self.tls.pair("etcd/server-ca").crt, leaf, http2=True)
        return EtcdClient(self.host.address, context, timeout_s)

    def name_member(self) -> None:
        """Give its etcd a name, unless it has one."""
        self._db.mkdir(parents=True, exist_ok=True)
        if not self._member.exists():
            self._member.write_text(f"{self.host.name}-{secrets.token_hex(4)}")

    async def run_etcd(self, initial: str | None) -> None:
        """Start its etcd, as a member of others where `initial` names them; until it votes."""
        if self.uses_etcd:
            self.name_member()
            self._migrate()
        name, data = self.member, self.etcd_data
        hosts = [self.host.address, "127.0.0.1", "localhost"]
        server = self.tls.write("etcd/server", self.tls.leaf("etcd/server-ca", "etcd-server", hosts=hosts))
        peer = self.tls.write("etcd/peer", self.tls.leaf("etcd/peer-ca", "etcd-peer", hosts=hosts))
        client = f"https://{self.host.address}:2379"
        flags = {
            "name": name, "data-dir": str(data),
            "listen-client-urls": client, "advertise-client-urls": client,
            "listen-peer-urls": self.peer_url, "initial-advertise-peer-urls": self.peer_url,
            "client-cert-auth": "true", "peer-client-cert-auth": "true",
            "trusted-ca-file": str(self.tls.folder / "etcd/server-ca.crt"),
            "peer-trusted-ca-file": str(self.tls.folder / "etcd/peer-ca.crt"),
            "cert-file": str(server[0]), "key-file": str(server[1]),
            "peer-cert-file": str(peer[0]), "peer-key-file": str(peer[1]),
            "log-level": "error", "unsafe-no-fsync": "true",
            "initial-cluster-state": "existing" if initial else "new",
            "initial-cluster": initial or f"{name}={self.peer_url}",
        }  # fmt: skip
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.servers.start("etcd", flags)
        while not await self._votes():
            await asyncio.sleep(_POLL_S)

    def _migrate(self) -> None:
        """SQLite becomes etcd."""
        if (self._db / "state.db").exists() and not self.etcd_data.exists():
            (self._db / "state.db").rename(self.etcd_data)

    async def _votes(self) -> bool:
        try:
            async with self.etcd() as client:
                status = await client.status()
                if not status.is_learner:
                    await client.members()
                    return True
            for peer in k3s_agent.all_servers(self.host):
                if peer is not self and peer.ready and peer.tls.digest == self.tls.digest:
                    async with peer.etcd() as other:
                        await other.promote(status.header.member_id)
                    break
        except EtcdError:
            pass
        return False

    def _write_token(self) -> None:
        text = f"K10{self.tls.digest}::server:{self.password}\n"
        self.host.put(f"{DATA}/token", text, 0o600)
        self.host.put(f"{DATA}/node-token", text, 0o600)

    def _context(self) -> Any:
        return client_context(
            self.tls.pair("server-ca").crt, self.tls.leaf("client-ca", "system:admin", ["system:masters"])
        )

    def _serve(self) -> None:
        tls, address = self.tls, self.host.address
        services = str(self.config.get("service-cidr", "10.43.0.0/16"))
        hosts = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
                 "localhost", "127.0.0.1", address, self.host.name, str(ipaddress.ip_network(services)[1]),
                 *self.names]  # fmt: skip
        own = tls.write("serving", tls.leaf("server-ca", "k3s", hosts=list(dict.fromkeys(hosts))))
        kubelet = tls.write("kubelet-client", tls.leaf("client-ca", "kube-apiserver", ["system:masters"]))
        front = tls.write("front-proxy", tls.leaf("request-header-ca", "system:auth-proxy"))
        etcd = tls.write("etcd/client", tls.leaf("etcd/server-ca", "etcd-client"))
        flags = {
            "advertise-address": address, "bind-address": address, "secure-port": str(PORT),
            "allow-privileged": "true", "anonymous-auth": "false", "authorization-mode": "Node,RBAC",
            "client-ca-file": str(tls.folder / "client-ca.crt"), "enable-admission-plugins": "NodeRestriction",
            "enable-bootstrap-token-auth": "true", "endpoint-reconciler-type": "none",
            "etcd-cafile": str(tls.folder / "etcd/server-ca.crt"), "etcd-certfile": str(etcd[0]),
            "etcd-keyfile": str(etcd[1]), "etcd-servers": f"https://{address}:2379",
            "kubelet-client-certificate": str(kubelet[0]), "kubelet-client-key": str(kubelet[1]),
            "proxy-client-cert-file": str(front[0]), "proxy-client-key-file": str(front[1]),
            "requestheader-allowed-names": "system:auth-proxy",
            "requestheader-client-ca-file": str(tls.folder / "request-header-ca.crt"),
            "requestheader-extra-headers-prefix": "X-Remote-Extra-",
            "requestheader-group-headers": "X-Remote-Group", "requestheader-username-headers": "X-Remote-User",
            "api-audiences": "https://kubernetes.default.svc.cluster.local,k3s",
            "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
            "service-account-key-file": str(tls.service_public()),
            "service-account-signing-key-file": str(tls.service_key), "service-cluster-ip-range": services,
            "tls-cert-file": str(own[0]), "tls-private-key-file": str(own[1]), "shutdown-delay-duration": "0s",
            "profiling": "false",
        }  # fmt: skip
        self.servers.start("kube-apiserver", flags)

    def _more(self) -> None:
        """What needs the API."""
        tls = self.tls
        manager, scheduler = (
            self._kubeconfig(f"system:{name}") for name in ("kube-controller-manager", "kube-scheduler")
        )
        self.servers.start("kube-controller-manager", {
            "bind-address": self.host.address, "kubeconfig": manager, "authentication-kubeconfig": manager,
            "authorization-kubeconfig": manager, "allocate-node-cidrs": "true",
            "cluster-cidr": str(self.config.get("cluster-cidr", "10.42.0.0/16")),
            "service-cluster-ip-range": str(self.config.get("service-cidr", "10.43.0.0/16")),
            "cluster-signing-cert-file": str(tls.folder / "client-ca.crt"),
            "cluster-signing-key-file": str(tls.folder / "client-ca.key"), "controllers": "*,tokencleaner",
            "root-ca-file": str(tls.folder / "server-ca.crt"), "profiling": "false",
            "service-account-private-key-file": str(tls.service_key), "use-service-account-credentials": "true",
            "leader-elect": "true", "node-monitor-period": "1s", "node-monitor-grace-period": "8s", **ELECTION,
        })  # fmt: skip
        self.servers.start("kube-scheduler", {
            "bind-address": self.host.address, "kubeconfig": scheduler, "authentication-kubeconfig": scheduler,
            "authorization-kubeconfig": scheduler, "leader-elect": "true", "profiling": "false", **ELECTION,
        })  # fmt: skip

    def _kubeconfig(self, user: str) -> str:
        text = kubeconfig(self.url, self.tls.pair("server-ca").crt, self.tls.leaf("client-ca", user))
        return str(write_secret(self.tls.folder / f"{user.rpartition(':')[2]}.kubeconfig", text))

    def _write_kubeconfig(self) -> None:
        leaf = self.tls.renewed("client-admin", "client-ca", "system:admin", ["system:masters"])
        text = kubeconfig("https://127.0.0.1:6443", self.tls.pair("server-ca").crt, leaf)
        self.host.put("/etc/rancher/k3s/k3s.yaml", text, 0o600)

    async def _run_kubelet(self) -> None:
        leaf = await k3s_agent.admitted(self.host, self)
        roles = {"node-role.kubernetes.io/control-plane": "true"}
        roles |= {"node-role.kubernetes.io/etcd": "true"} if self.uses_etcd else {}
        # A node may not give itself these labels: k3s' own controller does it for servers.
        self._kubelet = k3s_agent.kubelet(self.host, self.config, self, leaf)
        self._tasks.append(self.host.lab.spawn(self._label(roles), f"{self.host.name} labels"))
        await self._kubelet.run()

    async def _label(self, roles: dict[str, str]) -> None:
        annotations = {_MEMBER: self.member, _ADDRESS: self.host.address} if self.uses_etcd else {}
        path = f"/api/v1/nodes/{self.host.name}"
        async with self.admin() as api:
            while True:
                try:
                    await api.patch(path, {"metadata": {"labels": roles, "annotations": annotations}})
                    return
                except ApiError:
                    await asyncio.sleep(_POLL_S)

    def _announce(self) -> None:
        """What kube-vip does on the server that leads: the address answers, and leads to a server that is ready."""
        for _, body in dropped(self.host):
            address = vip(body)
            if address is None:
                continue

            def upstreams() -> list[tuple[str, int]]:
                ready = (one for one in k3s_agent.all_servers(self.host) if one.ready)
                return [(one.host.address, PORT) for one in ready if one.tls.digest == self.tls.digest]

            self._tasks.append(self.host.lab.spawn(self._hold(address, upstreams), f"{self.host.name} kube-vip"))

    async def _hold(self, address: str, upstreams: Any) -> None:
        while self._vip is None:
            relay = Relay(upstreams)
            try:
                relay.listen(address, PORT)
            except OSError:
                await asyncio.sleep(_POLL_S)  # another server has it
                continue
            self._vip = relay
            self.host.emit("vip_taken", address=address)

    async def _watch(self) -> None:
        """k3s' own controllers, on every server: passwords of nodes that are gone, members that are to go."""
        seen: dict[str, str] = {}
        while True:
            await asyncio.sleep(2 * _POLL_S)
            with contextlib.suppress(ApiError, EtcdError, OSError):
                async with self.admin() as api:
                    nodes = {item["metadata"]["name"]: item for item in (await api.get("/api/v1/nodes"))["items"]}
                    for name in seen.keys() - nodes.keys():
                        await api.delete(f"/api/v1/namespaces/kube-system/secrets/{name}.node-password.k3s")
                        await self._remove_member(seen[name])
                        self.host.emit("node_removed", removed=name)
                    for name, node in nodes.items():
                        await self._maybe_remove(api, name, node)
                    seen = {n: item["metadata"].get("annotations", {}).get(_MEMBER, "") for n, item in nodes.items()}

    async def _maybe_remove(self, api: Api, name: str, node: dict[str, Any]) -> None:
        said = node["metadata"].get("annotations", {})
        if said.get(_REMOVE) != "true" or _REMOVED in said or _MEMBER not in said:
            return
        await self._remove_member(said[_MEMBER])
        done = {_REMOVED: said[_MEMBER], _MEMBER: None, _ADDRESS: None}
        await api.patch(f"/api/v1/nodes/{name}", {"metadata": {"annotations": done}})

    async def _remove_member(self, name: str) -> None:
        if not name or not self.uses_etcd:
            return
        async with self.etcd() as client:
            for member in await client.members():
                if member.name == name:
                    await client.remove(member.id)
                    self.host.emit("etcd_member_removed", member=name)
