"""What every k3s node does: it proves who it is with a token or its certificate, and runs a kubelet."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import yaml

from twin.hosts.kubelet import Kubelet, Wish
from twin.kubernetes.api import Api, ApiError
from twin.talos.pki import Pair, client_context

if TYPE_CHECKING:
    from twin.hosts.host import Host
    from twin.hosts.k3s_server import Server

CONFIG = "/etc/rancher/k3s/config.yaml"
PASSWORD = "/etc/rancher/node/password"  # noqa: S105  # a path
_CERTIFICATE = "/var/lib/rancher/k3s/agent/client-kubelet"
_POLL_S = 0.3


def config(host: Host) -> dict[str, Any]:
    """The file, with what its drop-ins add."""
    found: dict[str, Any] = yaml.safe_load(host.read(CONFIG)) or {}
    return found


def token(host: Host, given: dict[str, Any]) -> str:
    """The token of a config, which may stand in a file of its own."""
    return host.read(given["token-file"]).strip() if "token-file" in given else str(given.get("token", ""))


def version(host: Host) -> str:
    """That of the binary that is there now."""
    return host.read("/usr/local/bin/k3s").split()[1]


class Agent:
    """`k3s agent`."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.kubelet: Kubelet | None = None
        self._digest = ""

    async def start(self) -> None:
        """Go on asking until the server takes it, as k3s does; then run the kubelet."""
        given = config(self.host)
        url = urlsplit(str(given.get("server", "")))
        if not url.hostname:
            raise OSError("flag --server is required")
        while True:
            try:
                self.kubelet = await self._joined(given, url.hostname, url.port or 6443)
                break
            except OSError as error:
                self.host.put("/var/log/k3s-agent.log", f"{error}\n")
                await asyncio.sleep(_POLL_S)
        await self.kubelet.run()

    async def stop(self) -> None:
        """End the kubelet."""
        self.kill()

    def kill(self) -> None:
        """End the kubelet."""
        if self.kubelet is not None:
            self.kubelet.kill()

    async def _joined(self, given: dict[str, Any], address: str, port: int) -> Kubelet:
        server = await reached(self.host, address, port)
        if server is None:
            raise OSError(f"failed to get CA certs: https://{address}:{port}: connection refused")
        stored = _stored(self.host)
        if not await self._proven(server, token(self.host, given), stored):
            raise OSError("failed to retrieve configuration from server: 401 Unauthorized")
        self._digest = server.tls.digest
        leaf = await admitted(self.host, server)
        return kubelet(self.host, given, server, leaf)

    async def _proven(self, server: Server, given: str, stored: Pair | None) -> bool:
        """By a token, or by the certificate of a node that the cluster still knows."""
        digest, _, word = given.partition("::") if given.startswith("K10") else ("", "", given)
        if digest and digest.removeprefix("K10") != server.tls.digest:
            raise OSError("token CA hash does not match the Cluster CA certificate hash")
        if word.partition(":")[2] and secrets.compare_digest(word.partition(":")[2], server.password):
            return True
        ca = server.tls.pair("server-ca").crt
        asked: list[tuple[str, Pair | None]] = [(word, None)] * ("." in word) + [("", stored)] * (stored is not None)
        for bearer, leaf in asked:
            async with Api(server.url, client_context(ca, leaf), bearer) as api:
                if await _known(api, self.host.name if leaf else ""):
                    return True
        return False


def _stored(host: Host) -> Pair | None:
    crt, key = (host.path(f"{_CERTIFICATE}.{end}") for end in ("crt", "key"))
    return Pair(crt.read_bytes(), key.read_bytes()) if crt.exists() and key.exists() else None


async def _known(api: Api, node: str) -> bool:
    try:
        if node:
            await api.get(f"/api/v1/nodes/{node}")
        else:
            review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
            await api.create("/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
    except ApiError as error:
        if error.status == 0:
            raise OSError(str(error)) from None
        # Whoever is let in and may not read is known nevertheless.
        return error.status == 403 and not node
    return True


async def reached(host: Host, address: str, port: int) -> Server | None:
    """The server that answers behind an address: its own, or a balancer's, over a real connection."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), 3)
    except (OSError, TimeoutError):
        return None
    writer.close()
    own = host.lab.at(address)
    candidates = list(servers(host, address))
    return next((one for one in candidates if own is None or one.host is own), None)


def servers(host: Host, address: str) -> Iterator[Server]:
    """All ready servers that a registration address may lead to."""
    from twin.hosts.k3s_server import Server  # noqa: PLC0415  # it needs this module itself

    for other in host.lab.hosts.values():
        found = other.units.program("k3s")
        if isinstance(found, Server) and found.ready and address in {other.address, *found.names}:
            yield found


async def admitted(host: Host, server: Server) -> Pair:
    """The node's certificate, if its password is the one that the cluster knows. Raises OSError."""
    if not host.path(PASSWORD).is_file():
        host.put(PASSWORD, f"{secrets.token_hex(16)}\n", 0o600)
    digest = hashlib.sha256(host.read(PASSWORD).strip().encode()).hexdigest()
    name, path = f"{host.name}.node-password.k3s", "/api/v1/namespaces/kube-system/secrets"
    about = {"name": name, "namespace": "kube-system"}
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": about, "stringData": {"hash": digest}}
    try:
        async with server.admin() as api:
            if not await api.create(path, body):
                known = base64.b64decode((await api.get(f"{path}/{name}"))["data"]["hash"]).decode()
                if known != digest:
                    host.emit("node_password_rejected")
                    raise OSError(
                        "Node password rejected, duplicate hostname or contents of '/etc/rancher/node/password'"
                    )
    except ApiError as error:
        raise OSError(str(error)) from None
    stored = _stored(host)
    if stored is not None and server.tls.lasts(stored.crt, "client-ca"):
        return stored
    return server.tls.leaf("client-ca", f"system:node:{host.name}", ["system:nodes"])


def kubelet(
    host: Host, given: dict[str, Any], server: Server, leaf: Pair, extra: dict[str, str] | None = None
) -> Kubelet:
    """The kubelet of a node that was let in, its certificate kept."""
    host.put(f"{_CERTIFICATE}.crt", leaf.crt)
    host.put(f"{_CERTIFICATE}.key", leaf.key, 0o600)
    labels = dict(text.partition("=")[::2] for text in given.get("node-label", []))
    wish = Wish(
        version=version(host),
        pods=str(server.config.get("cluster-cidr", "10.42.0.0/16")),
        labels={**labels, **(extra or {})},
        taints=tuple(given.get("node-taint", [])),
        network=server.config.get("flannel-backend") != "none",
    )
    digest = server.tls.digest

    def upstreams() -> list[tuple[str, int]]:
        peers = [one for one in all_servers(host) if one.tls.there and one.tls.digest == digest and one.ready]
        return [(one.host.address, 6443) for one in sorted(peers, key=lambda one: one.host is not host)]

    return Kubelet(host, wish, server.tls.pair("server-ca").crt, leaf, upstreams)


def all_servers(host: Host) -> Iterator[Server]:
    """All servers of the lab, ready or not."""
    from twin.hosts.k3s_server import Server  # noqa: PLC0415  # it needs this module itself

    for other in host.lab.hosts.values():
        found = other.units.program("k3s")
        if isinstance(found, Server) and other.on:
            yield found
