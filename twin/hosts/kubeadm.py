"""kubeadm on a host. Certificates, tokens, uploads and their checks are the real program's; the host is played.

Its files are in the host's folder and not in /etc, so what it would do there itself (services, static pods, joining)
is done here, by the same objects in the same API.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
from typing import TYPE_CHECKING, Any

import yaml
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.x509 import load_pem_x509_certificate

from twin.hosts import k3s, system
from twin.hosts import kubeadm_node as node
from twin.hosts.shell import Reply, command, said
from twin.kubernetes.api import Api, ApiError
from twin.kubernetes.kubeconfig import kubeconfig
from twin.kubernetes.node import Denied, certified
from twin.talos.pki import Pair, client_context
from twin.talos.process import MissingServer, program

if TYPE_CHECKING:
    from twin.hosts.host import Host

VERSION_FILE = "/usr/bin/kubeadm"
_SECRETS = "/api/v1/namespaces/kube-system/secrets"
_CONFIG = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"
_INFO = "/api/v1/namespaces/kube-public/configmaps/cluster-info"
_READY_S = 90.0
_BOOTSTRAP_S = 30.0
_API = "kubeadm.k8s.io/v1beta4"
_NOWHERE = "192.0.2.1"  # of the block for examples (RFC 5737)
_POLL_S = 0.2
_DISCOVERY_ROUNDS = 75


class Failed(Exception):
    """kubeadm's own words for what it does not do."""


@command("kubeadm")
async def kubeadm(host: Host, argv: list[str], _stdin: bytes) -> Reply:
    """The verbs that a cluster's life needs."""
    if not host.path(VERSION_FILE).is_file():
        return said("sh: 1: kubeadm: not found\n", 127)
    plain = [word for word in argv if not word.startswith("-")]
    try:
        match plain[:2]:
            case ["version", *_]:
                return said(host.read(VERSION_FILE))
            case ["init", "phase"]:
                return await _real(host, argv)
            case ["init", *_]:
                return await _init(host, _given(host, argv))
            case ["join", *_]:
                return await _join(host, _given(host, argv))
            case ["reset", *_]:
                return await _reset(host)
            case ["token" | "certs", *_]:
                return await _real(host, argv)
    except Failed as error:
        return said(f"error execution phase: {error}\n", 1)
    except ApiError as error:
        return said(f"error: {error}\n", 1)
    return said(f"kubeadm: the twin knows no {' '.join(plain)}\n", 1)


def _given(host: Host, argv: list[str]) -> dict[str, dict[str, Any]]:
    """The documents behind --config, by kind."""
    text = host.read(argv[argv.index("--config") + 1])
    return {item["kind"]: item for item in yaml.safe_load_all(text) if item}


async def _real(host: Host, argv: list[str], documents: dict[str, dict[str, Any]] | None = None) -> Reply:
    """Run the real kubeadm, with the host's folder in place of /etc/kubernetes."""
    scratch = host.lab.folder / host.name / "kubeadm.yaml"
    words = [str(host.path(word)) if word.startswith("/etc/") else word for word in argv]
    given = documents
    if given is None and "--config" in argv:
        given = _given(host, argv)
    if given is None and argv[:1] == ["certs"]:
        given = {"ClusterConfiguration": {"apiVersion": _API, "kind": "ClusterConfiguration"}}
        words += ["--config", ""]
    if given is not None:
        cluster = {**given["ClusterConfiguration"], "certificatesDir": str(host.path(node.PKI))}
        cluster.setdefault("kubernetesVersion", host.read(VERSION_FILE).strip())
        # kubeadm takes no loopback address, and hosts have nothing else here; their own is among certSANs.
        first = given.get("InitConfiguration") or {"apiVersion": _API, "kind": "InitConfiguration"}
        first = {**first, "localAPIEndpoint": {"advertiseAddress": _NOWHERE}}
        changed = {**given, "InitConfiguration": first, "ClusterConfiguration": cluster}
        scratch.write_text(yaml.safe_dump_all(changed.values()))
        if "--config" not in words:
            words += ["--config", ""]
        words[words.index("--config") + 1] = str(scratch)
    phases = {"upload-certs", "upload-config", "bootstrap-token", "mark-control-plane"}
    if argv[:1] == ["init"] and phases & set(argv):
        words += ["--kubeconfig", str(host.path(node.ADMIN))]
    try:
        child = await asyncio.create_subprocess_exec(
            program(host.lab.tools, "kubeadm"), *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except MissingServer as error:
        return said(f"twin: {error}\n", 127)
    out, err = await child.communicate()
    return Reply(child.returncode or 0, out, err)


def _preflight(host: Host) -> None:
    faults = []
    if len(host.read("/proc/swaps").splitlines()) > 1:
        faults.append("[ERROR Swap]: running with swap on is not supported")
    if host.sysctls.get("net.ipv4.ip_forward") != "1":
        faults.append("[ERROR FileContent--proc-sys-net-ipv4-ip_forward]: contents are not set to 1")
    if host.units.state("containerd") != "active":
        faults.append("[ERROR CRI]: container runtime is not running")
    taken = (path for path in (node.KUBELET, f"{node.MANIFESTS}/kube-apiserver.yaml") if host.path(path).exists())
    faults += [f"[ERROR FileAvailable]: {path} already exists" for path in taken]
    if host.path(node.ETCD).is_dir() and any(host.path(node.ETCD).iterdir()):
        faults.append(f"[ERROR DirAvailable--var-lib-etcd]: {node.ETCD} is not empty")
    if faults:
        raise Failed("preflight: " + "; ".join(faults))


async def _init(host: Host, given: dict[str, dict[str, Any]]) -> Reply:
    _preflight(host)
    first, cluster = given["InitConfiguration"], given["ClusterConfiguration"]
    host.emit("kubeadm_init")
    await _checked(host, ["init", "phase", "certs", "all"], given)
    registration = first["nodeRegistration"]
    node.write_settings(host, cluster, registration, initial="")
    _write_admin(host, cluster)
    _write_kubelet(host, cluster, node.own_leaf(host))
    await _serves(host)
    for phase in (["upload-config", "kubeadm"], ["bootstrap-token", "--skip-token-print"]):
        await _checked(host, ["init", "phase", *phase], given)
    await node.label(host, registration)
    return said("Your Kubernetes control-plane has initialized successfully!\n")


async def _checked(host: Host, argv: list[str], given: dict[str, dict[str, Any]]) -> None:
    # Every name of the config that kubeadm itself would add for this machine is that of the host here.
    cluster = given["ClusterConfiguration"]
    api = {**cluster.get("apiServer", {})}
    api["certSANs"] = sorted({*api.get("certSANs", []), "localhost", "127.0.0.1", host.name, host.address})
    reply = await _real(host, argv, {**given, "ClusterConfiguration": {**cluster, "apiServer": api}})
    if reply.code:
        raise Failed(f"{' '.join(argv[:4])}: {reply.err.decode()[-600:]}")


async def _serves(host: Host) -> None:
    """Start the kubelet, which starts the static pods, and wait until the API answers at the endpoint."""
    await host.units.stop("kubelet")
    host.units.enabled.add("kubelet")
    await host.units.start("kubelet")
    settings = node.settings(host)
    ends = asyncio.get_running_loop().time() + _READY_S
    async with node.admin(host, f"https://{settings['endpoint']}") as api:
        while not await api.ready():
            if asyncio.get_running_loop().time() > ends:
                raise Failed("wait-control-plane: the API does not answer at the controlPlaneEndpoint")
            await asyncio.sleep(_POLL_S)


def _write_admin(host: Host, cluster: dict[str, Any]) -> None:
    leaf = node.issue_leaf(host, "ca", "kubernetes-admin", ["system:masters"])
    server = f"https://{cluster['controlPlaneEndpoint']}"
    host.put(node.ADMIN, kubeconfig(server, node.ca(host), leaf, str(cluster["clusterName"])), 0o600)


def _write_kubelet(host: Host, cluster: dict[str, Any], leaf: Pair) -> None:
    text = kubeconfig(f"https://{cluster['controlPlaneEndpoint']}", node.ca(host), leaf)
    host.put(node.KUBELET, text, 0o600)


async def _join(host: Host, given: dict[str, dict[str, Any]]) -> Reply:
    document = given["JoinConfiguration"]
    _preflight(host)
    shown = document["discovery"]["bootstrapToken"]
    authority = await _discovered(shown)
    endpoint, token = f"https://{shown['apiServerEndpoint']}", str(shown["token"])
    async with Api(endpoint, client_context(authority), token) as api:
        found = await api.get(_CONFIG)
        cluster = yaml.safe_load(found["data"]["ClusterConfiguration"])
        registration = document["nodeRegistration"]
        if "controlPlane" in document:
            certificates = (await api.get(f"{_SECRETS}/kubeadm-certs"))["data"]
            _decrypt(host, certificates, str(document["controlPlane"]["certificateKey"]))
            host.emit("kubeadm_join", role="control-plane")
            await _join_control_plane(host, cluster, registration, authority)
        else:
            host.emit("kubeadm_join", role="worker")
            host.put(f"{node.PKI}/ca.crt", authority)
            node.write_settings(host, cluster, registration, initial=None)
            _write_kubelet(host, cluster, await _signed(api, host.name))
            await host.units.stop("kubelet")
            host.units.enabled.add("kubelet")
            await host.units.start("kubelet")
    return said("This node has joined the cluster\n")


async def _discovered(shown: dict[str, Any]) -> bytes:
    """The cluster's CA out of cluster-info, proven by the token and the pin, as kubeadm does it."""
    endpoint, (name, _, word) = f"https://{shown['apiServerEndpoint']}", str(shown["token"]).partition(".")
    signature, data = None, {}
    async with Api(endpoint, _untrusting()) as api:
        for _ in range(_DISCOVERY_ROUNDS):
            data = (await api.get(_INFO))["data"]
            if (signature := data.get(f"jws-kubeconfig-{name}")) is not None:
                break
            await asyncio.sleep(_POLL_S)  # the controller manager signs a moment after a token was made
    if signature is None:
        raise Failed(f"couldn't validate the identity of the API Server: no JWS signature for token ID {name}")
    head, _, tail = str(signature).partition("..")
    payload = base64.urlsafe_b64encode(data["kubeconfig"].encode()).rstrip(b"=").decode()
    proof = hmac.new(word.encode(), f"{head}.{payload}".encode(), hashlib.sha256).digest()
    if not hmac.compare_digest(base64.urlsafe_b64encode(proof).rstrip(b"=").decode(), tail):
        raise Failed("JWS in cluster-info is not of this token")
    config = yaml.safe_load(data["kubeconfig"])
    authority = base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"])
    public = load_pem_x509_certificate(authority).public_key()
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if f"sha256:{hashlib.sha256(der).hexdigest()}" not in shown["caCertHashes"]:
        raise Failed("cluster CA found in cluster-info ConfigMap is invalid: none of the public keys are pinned")
    return authority


def _untrusting() -> ssl.SSLContext:
    """TLS towards somebody who is proven by what he says, and not by his certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _decrypt(host: Host, data: dict[str, str], key: str) -> None:
    """The uploaded certificates, under the key that came with them."""
    cipher = AESGCM(bytes.fromhex(key))
    for name, text in data.items():
        raw = base64.b64decode(text)
        try:
            plain = cipher.decrypt(raw[:12], raw[12:], None)
        except InvalidTag:
            host.forget(node.PKI)
            raise Failed("error decoding secret data with provided key: message authentication failed") from None
        host.put(f"{node.PKI}/{name.replace('etcd-', 'etcd/')}", plain, 0o600)


async def _join_control_plane(
    host: Host, cluster: dict[str, Any], registration: dict[str, Any], authority: bytes
) -> None:
    host.put(f"{node.PKI}/ca.crt", authority)
    given = {"ClusterConfiguration": {**cluster, "apiVersion": _API, "kind": "ClusterConfiguration"}}
    await _checked(host, ["init", "phase", "certs", "all"], given)  # the leafs; authorities are there
    _write_admin(host, cluster)
    _write_kubelet(host, cluster, node.own_leaf(host))
    initial = await node.join_etcd(host)
    node.write_settings(host, cluster, registration, initial=initial)
    await _serves(host)
    await node.label(host, registration)


async def _signed(api: Api, name: str) -> Pair:
    """A kubelet's certificate by TLS bootstrap: asked for with the token, signed by the controller manager."""
    try:
        async with asyncio.timeout(_BOOTSTRAP_S):
            return await certified(api, name, _POLL_S)
    except (TimeoutError, Denied) as error:
        raise Failed(f"kubelet-start: the TLS bootstrap did not end: {error}") from None


async def _reset(host: Host) -> Reply:
    """What the real one does to a host, which is not all."""
    await host.units.stop("kubelet")
    for path in (node.MANIFESTS, node.PKI, node.ADMIN, node.KUBELET, node.SETTINGS, "/var/lib/kubelet", node.ETCD):
        host.forget(path)
    host.emit("kubeadm_reset")
    return said("The reset process does not clean CNI configuration.\n")


@command("kubectl")
async def kubectl(host: Host, argv: list[str], _stdin: bytes) -> Reply:
    """`exec etcd-NODE -- etcdctl ...`: what the pod's own client says."""
    if "exec" not in argv or "--" not in argv or argv[argv.index("--") + 1] != "etcdctl":
        return said("kubectl: the twin knows `exec etcd-NODE -- etcdctl`\n", 1)
    words = [word for word in argv[argv.index("--") + 2 :] if not word.startswith("--cacert") and "key=" not in word]
    words = [word for word in words if not word.startswith("--cert")]
    try:
        return await node.etcdctl(host, words)
    except (ApiError, OSError) as error:
        return said(f"Error: {error}\n", 1)


@command("crictl")
def crictl(host: Host, argv: list[str], _stdin: bytes) -> Reply:
    """`ps -q` of static pods, and `stop`, after which the kubelet starts them again."""
    if "ps" in argv:
        return said("".join(f"{name}\n" for name in node.running(host)))
    for name in argv[argv.index("stop") + 1 :] if "stop" in argv else ():
        node.restart(host, name)
    return Reply()


@command("apt-get")
async def apt_get(host: Host, argv: list[str], stdin: bytes) -> Reply:
    """As before; and Kubernetes' packages bring their programs and units."""
    answer = system.apt_get(host, argv, stdin)
    reply = answer if isinstance(answer, Reply) else await answer
    if reply.code == 0 and "install" in argv:
        for word in argv[argv.index("install") + 1 :]:
            name, _, version = word.partition("=")
            if name in ("kubeadm", "kubelet", "kubectl"):
                host.put(f"/usr/bin/{name}", f"v{version.partition('-')[0]}\n", 0o755)
            if name in node.UNITS:
                await _unit(host, name)
    return reply


async def _unit(host: Host, name: str) -> None:
    """Debian's packages have their services started."""
    path = node.UNITS[name]
    host.put(path, host.read(path) or "program\n", 0o755)
    host.put(f"/etc/systemd/system/{name}.service", f"[Service]\nType=notify\nExecStart={path}\n")
    host.units.enabled.add(name)
    await host.units.start(name)


@command("curl")
async def curl(host: Host, argv: list[str], stdin: bytes) -> Reply:
    """As before; and the key of Kubernetes' package repository."""
    if argv[-1].endswith("/deb/Release.key"):
        host.put(argv[argv.index("-o") + 1], "-----BEGIN PGP PUBLIC KEY BLOCK-----\n")
        return Reply()
    answer = k3s.curl(host, argv, stdin)
    return answer if isinstance(answer, Reply) else await answer


@command("ip")
def ip(host: Host, argv: list[str], _stdin: bytes) -> Reply:
    """Addresses as JSON; a link that is not there can't be deleted."""
    if "-j" in argv:
        held = [{"local": address} for address in (host.address,)]
        return said(json.dumps([{"ifname": "eth0", "addr_info": held}]))
    return said(f'Cannot find device "{argv[-1]}"\n', 1)


@command("iptables-save", "ip6tables-save", "iptables-restore", "ip6tables-restore", "ipvsadm")
def tables(_host: Host, _argv: list[str], _stdin: bytes) -> Reply:
    """No rule is there."""
    return Reply()
